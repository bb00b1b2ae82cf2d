#!/bin/sh
# The first process of the machine that run.sh boots: prepares it, runs $uml_work/command, leaves its exit status in
# $uml_work/status and switches the machine off. It has the files of the host under it; nothing but $uml_work is written.
exec </dev/null >/dev/tty1 2>&1
stty -opost <&1 # no carriage returns
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

off() {
	sync
	echo o >/proc/sysrq-trigger
	while :; do sleep 60; done
}
die() {
	echo "init: $*"
	echo 125 >"$uml_work/status"
	off
}

mount -t proc proc /proc || exit 1
modules=$uml_modules/$(uname -r)
insmod "$modules/kernel/fs/overlayfs/overlay.ko" || die "no overlay file system"
insmod "$modules/kernel/drivers/block/loop.ko" 2>/dev/null # or it is built in

# A root whose changes stay in memory.
mount -t tmpfs -o mode=755 tmpfs "$uml_work/root" || die "mount tmpfs"
mkdir "$uml_work/root/upper" "$uml_work/root/work" "$uml_work/root/merged"
mount -t overlay -o "lowerdir=/,upperdir=$uml_work/root/upper,workdir=$uml_work/root/work" overlay \
	"$uml_work/root/merged" || die "mount overlay"
cd "$uml_work/root/merged" || die "no root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t devpts -o ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p srv && mount -t tmpfs -o mode=1777 tmpfs srv
mkdir run/uml run/old
mount -t hostfs -o "$uml_work" none run/uml || die "mount hostfs" # where run.sh looks for the status
mkdir -p "lib/modules/$(uname -r)" && mount --bind "$modules" "lib/modules/$(uname -r)"
[ -n "$uml_systemd" ] || mount -t cgroup2 cgroup2 sys/fs/cgroup || die "mount cgroup2"

pivot_root . run/old || die "pivot_root"
umount -l /run/old
rmdir /run/old

hostname uml
ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null

if [ -n "$uml_systemd" ]; then
	mkdir -p /run/systemd/system /etc/tmpfiles.d
	# The command may be in /tmp: do not mount anything there, nor clear it.
	ln -sf /dev/null /etc/systemd/system/tmp.mount
	ln -sf /dev/null /etc/tmpfiles.d/tmp.conf
	cat >/run/systemd/system/uml-command.service <<EOF
[Unit]
Description=the command of run.sh
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/tty1
ExecStart=/bin/sh -c '/bin/sh /run/uml/command; echo \$\$? > /run/uml/status'
ExecStopPost=/bin/sh -c 'sync; echo o > /proc/sysrq-trigger'
EOF
	# run.sh's words for us are none for systemd.
	[ "$uml_systemd" = 1 ] && words=systemd.unified_cgroup_hierarchy=0
	exec env -i PATH="$PATH" TERM=dumb SYSTEMD_PROC_CMDLINE="$words" /lib/systemd/systemd --unit=uml-command.service --show-status=false \
		--log-level=err
fi

/bin/sh /run/uml/command
echo $? >/run/uml/status
off
