#!/bin/sh
# Last step of mmdebstrap: turns a root filesystem ($1) into a guest, with an unpacked kernel, the agent, and only the
# services that tests need. It boots without initrd and udev: nvme and ext4 are built into Debian's cloud kernel.
set -eu
root=$1
here=$(dirname "$(readlink -f "$0")")

package=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -1)
mkdir "$root/kernel"
chroot "$root" sh -c "cd /kernel && apt-get download -qq $package && dpkg-deb --extract ./*.deb ."
modules=$(dirname "$(find "$root/kernel" -path '*/modules/*/kernel' -prune)")
mkdir -p "$root/usr/lib/modules"
mv "$modules" "$root/usr/lib/modules/"
mv "$root"/kernel/boot/vmlinuz-* "$root/boot/vmlinuz"
rm -r "$root/kernel"
chroot "$root" depmod "$(basename "$modules")"
printf '%s\n' virtio_pci virtio_console virtio_blk virtio_rng >"$root/etc/modules-load.d/guest.conf"

install -m 755 "$here/agent.sh" "$root/usr/sbin/agent"
install -m 644 "$here/agent.service" "$root/etc/systemd/system/agent.service"
chroot "$root" systemctl -q enable agent.service
chroot "$root" systemctl -q set-default multi-user.target
chroot "$root" systemctl -q mask apparmor.service docker-registry.service getty@.service systemd-logind.service \
  systemd-pstore.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
  e2scrub_all.timer e2scrub_reap.service
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
  ln -s /dev/null "$root/etc/systemd/system-generators/$(basename "$generator")"
done
# mmdebstrap leaves the name of the build machine, which sudo would fail to resolve.
echo guest >"$root/etc/hostname"
echo "127.0.1.1 guest" >>"$root/etc/hosts"
# Skip systemd's actions for an updated system.
touch "$root/etc/.updated" "$root/var/.updated"
# Keelson's package as if installed, but on the cargo disk, so that it need not be copied.
mkdir "$root/cargo"
ln -s /cargo/package/usr/lib/keelson "$root/usr/lib/keelson"
ln -s ../lib/keelson/dist/cri/keelson "$root/usr/bin/keelson"
install -m 644 "$here/cargo.service" "$root/etc/systemd/system/cargo.service"
chroot "$root" systemctl -q enable cargo.service
