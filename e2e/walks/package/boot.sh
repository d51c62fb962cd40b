#!/bin/sh
# Execs systemd from the tree $1, in the cgroups $2 and in new namespaces, with the /dev of a container and the host's
# cgroup hierarchies from its own cgroup down. /proc/sys is read-only until systemd has started (machine.ts), because
# systemd would change sysctls of the host.
set -eu
tree=$1
mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  for mounted in /sys/fs/cgroup/*; do
    name=${mounted##*/}
    # Skip hierarchies mounted after our cgroups were created: they would expose the host's root cgroup.
    [ -d "$mounted/$2" ] || continue
    mkdir "sys/fs/cgroup/$name"
    case $name in
      unified) mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd ;;
      *) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
    esac
  done
fi
# udev, and other units that would use the host's devices, do not start if /sys is read-only.
mount -o remount,ro,bind sys
pivot_root . .
umount -l .
cd /
# Debian 13's systemd starts with cgroup v1 only if explicitly allowed.
exec env -i container=keelson-walk SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
  PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console
