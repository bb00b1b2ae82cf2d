#!/bin/busybox sh
# The first process of the machine that run.sh boots, twice: as the initramfs's, whose root cannot be pivoted away, it moves everything to a
# tmpfs; there it runs the programs in /packages, prints "failed: N" and switches the machine off.
/bin/busybox [ -e /bin/sh ] || /bin/busybox --install -s /bin
export PATH=/bin HOME=/root TMPDIR=/tmp

if [ ! -e /moved ]; then
	mkdir /moved
	mount -t tmpfs -o mode=755 tmpfs /moved
	for name in bin dev etc init lib packages proc root run sbin src sys tmp usr; do
		cp -a "/$name" /moved/
	done
	mkdir /moved/moved
	exec switch_root /moved /init
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for dir in /dev/shm /run /tmp; do
	mount -t tmpfs tmpfs "$dir"
done
chmod 1777 /dev/shm /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname arm64
ip link set lo up
for module in /lib/*.ko; do
	insmod "$module"
done

where="arm64, cgroup v2, Linux $(uname -r)"
failed=0
for package in $(cat /packages); do
	cd "/src/$package" || exit
	if "./$(basename "$package").test" -test.short -test.timeout 20m; then
		printf 'ok  \t%s on %s\n' "$package" "$where"
	else
		printf 'FAIL\t%s on %s\n' "$package" "$where"
		failed=$((failed + 1))
	fi
done

# The program itself, whose first instructions no test has: its run, from behind its seal, and a limit that they lower.
program() {
	mkdir -p /bundle/rootfs/bin && cp /bin/busybox /bundle/rootfs/bin/ && cd /bundle && gosudacon spec || return
	sed -i -e 's/"terminal": true/"terminal": false/' -e 's|"sh"|"/bin/busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; exit 7"|' \
		-e '/"rlimits"/,/\],/d' config.json
	(ulimit -Sn 777 && ulimit -Hn 1999 && gosudacon run c >out)
	[ "$?" = 7 ] && [ "$(tr '\n' ' ' <out)" = '777 1999 ' ] && [ -z "$(gosudacon list -q)" ] && gosudacon --version | grep -q ^gosudacon
}
if program; then
	printf 'ok  \tgosudacon run on %s\n' "$where"
else
	printf 'FAIL\tgosudacon run on %s\n' "$where"
	failed=$((failed + 1))
fi
echo "failed: $failed"
sync
echo o >/proc/sysrq-trigger
sleep 60
