#!/bin/sh
# Sets up a bare Debian machine: Debian packages, npm packages, the native build, the generated code.
# Usage: e2e/setup.sh [demo|test|vm]. Can be run again at any time; it does only what is missing or out of date.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-test}

if [ "$(id -u)" -ne 0 ]; then
  echo "Keelson creates namespaces, mounts and cgroups, so this must run as root: try again with sudo." >&2
  exit 1
fi

packages="g++ make libseccomp-dev libisal-dev libzstd-dev libssl-dev libmnl-dev libnftnl-dev busybox-static containernetworking-plugins iptables iproute2"
if [ "$purpose" != demo ]; then
  packages="$packages ccache docker-registry runc crun zstd nftables python3 tini libcap2-bin util-linux procps openssl dpkg-dev"
fi
if [ "$purpose" = vm ]; then packages="$packages mmdebstrap e2fsprogs"; fi

missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "Installing Debian packages:$missing" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Debian's mechanism against starting services: without it, the docker-registry package would start a registry.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >&2
fi

# These need no npm packages, so they are built while npm installs.
make -s -C native -j"$(nproc)" monitor unpack cni >&2 &
building=$!
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  # Not `npm ci`: it requires every platform's optional package in the lock file, and some mirrors do not have them all.
  npm install --no-save --no-audit --no-fund >&2 || { kill "$building"; exit 1; }
fi
wait "$building"

PATH="$PWD/node_modules/.bin:$PATH"
export PATH
make -s -C native -j"$(nproc)" >&2 &
building=$!
if [ ! -e cri/api/generated/messages.js ] || [ cri/api/api.proto -nt cri/api/generated/messages.js ] || [ cri/api/keelson.proto -nt cri/api/generated/messages.js ]; then
  npm run --silent build:proto >&2 || { kill "$building"; exit 1; }
fi
wait "$building"
