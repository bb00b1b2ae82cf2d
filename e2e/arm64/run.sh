#!/bin/bash
# run.sh TREE MACHINE PACKAGE... runs the test programs of PACKAGEs that make test-arm64 has built in TREE/.cache/arm64 as root of an
# arm64 machine with pure cgroup v2, and then a container with TREE/bin/arm64/gosudacon: the kernel and busybox in MACHINE (see
# machine.sh) under QEMU, which emulates the processor. There is no disk and no network; the machine sees TREE's sources and nothing
# else.
#
# Their output comes out here; the exit status is 0 when all passed.
set -euo pipefail

tree=$1 machine=$2
shift 2
seconds=1800

work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu"; rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,lib,proc,root,run,sbin,src,sys,tmp,usr/{bin,sbin}}
echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
echo root:x:0: >"$root/etc/group"
echo arm64 >"$root/etc/hostname"
cp "$machine/busybox" "$tree/bin/arm64/containerd-shim-gosuda-v2" "$root/bin/"
ln -s containerd-shim-gosuda-v2 "$root/bin/gosudacon"
cp "$machine"/*.ko "$root/lib/"
cp "$tree/e2e/arm64/init.sh" "$root/init"
git -C "$tree" ls-files -z internal runtime shim docs go.mod | tar -C "$tree" --null -T - -cf - | tar -C "$root/src" -xf -
for package; do
	cp "$tree/.cache/arm64/$(basename "$package").test" "$root/src/${package#./}/"
	echo "${package#./}"
done >"$root/packages"
cp "$tree"/.cache/arm64/probe-* "$root/src/runtime/internal/seccomp/testdata/probe/"
(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$work/initramfs"

: >"$work/console" # tail may come to it first
timeout --kill-after=10 "$seconds" qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -smp 2 -m 3G -no-reboot \
	-display none -nic none -monitor none -serial stdio -kernel "$machine/vmlinuz" -initrd "$work/initramfs" \
	-append "console=ttyAMA0 rdinit=/init quiet loglevel=1 panic=-1" </dev/null >"$work/console" &
qemu=$!
# What the machine writes, as it goes, without the carriage returns of a terminal; its last line is the number of programs that failed.
tail --pid="$qemu" -n +1 -f "$work/console" | sed -u -e 's/\r$//' -e '/^failed: [0-9]*$/d'
wait "$qemu" || { echo "run.sh: the machine did not end by itself (status $?; it has $seconds seconds)" >&2; qemu=; exit 1; }
qemu=
if ! tr -d '\r' <"$work/console" | grep -qx 'failed: 0'; then
	tail -n 3 "$work/console" | grep -q '^failed: ' || echo "run.sh: the machine ended before its tests" >&2
	exit 1
fi
