#!/bin/bash
# machine.sh SUITE DEST unpacks what run.sh boots into DEST: the arm64 kernel of a Debian suite, the modules that containers need, and
# busybox. Nothing of this machine changes.
set -euo pipefail

suite=$1 dest=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$0")/../peers/private-apt.sh"
private_apt_setup "$suite" "$work" arm64
kernel=$(private_apt apt-cache depends linux-image-arm64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2 }')
(cd "$work" && private_apt_logged "$work/log" apt-get -qq download "$kernel" busybox-static)
for package in "$work"/*.deb; do
	dpkg -x "$package" "$work/unpacked"
done

rm -rf "$dest"
mkdir -p "$dest"
cp "$work"/unpacked/boot/vmlinuz-* "$dest/vmlinuz"
cp "$work"/unpacked/usr/bin/busybox "$dest/"
for module in fs/overlayfs/overlay drivers/net/dummy drivers/net/veth; do
	xz -dc "$work"/unpacked/usr/lib/modules/*/kernel/"$module.ko.xz" >"$dest/$(basename "$module").ko"
done
