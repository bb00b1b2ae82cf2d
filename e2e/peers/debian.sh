#!/bin/bash
# debian.sh [-r] SUITE DEST PACKAGE... unpacks packages of a Debian suite, with every library that they need, into DEST.
# With -r DEST becomes a root to run them in, with what every root of these needs: for sets that look for much where Debian has it.
#
# Nothing of the machine changes (private-apt.sh): the packages are resolved as if nothing were installed; they are unpacked, never
# installed; and the programs are told (patchelf) to use the loader and the libraries beside them, so that a newer suite's programs run
# on an older one.
set -euo pipefail

as_root=
if [ "$1" = -r ]; then
	as_root=1
	shift
fi

suite=$1 dest=$2
shift 2
if [ "$as_root" ]; then
	set -- "$@" base-files base-passwd busybox-static coreutils dash iptables mount
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
. "$(dirname "$0")/private-apt.sh"
private_apt_setup "$suite" "$work"
private_apt_logged "$work/log" apt-get -qq --download-only --yes install "$@"

if [ "$as_root" ]; then # the links that packages of older suites expect to find
	mkdir -p "$work"/root/usr/{bin,sbin,lib,lib64}
	ln -s usr/{bin,sbin,lib,lib64} "$work/root/"
fi
for package in "$work"/cache/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$package" | tar -C "$work/root" --keep-directory-symlink -xf -
done

if [ "$as_root" ]; then # what the packages' scripts would have made, as far as anything here needs it
	cp "$work/root/usr/share/base-passwd/passwd.master" "$work/root/etc/passwd"
	cp "$work/root/usr/share/base-passwd/group.master" "$work/root/etc/group"
	[ -e "$work/root/var/run" ] || ln -s /run "$work/root/var/run"
	[ -e "$work/root/usr/bin/sh" ] || ln -s dash "$work/root/usr/bin/sh"
	for program in iptables ip6tables; do
		for form in "" -save -restore; do
			ln -sf "/usr/sbin/$program-nft$form" "$work/root/usr/sbin/$program$form"
		done
	done
fi

rm -rf "$dest"
mkdir -p "$(dirname "$dest")"
mv "$work/root" "$dest"
dest=$(realpath "$dest")
[ -z "$as_root" ] || exit 0

triplet=$(uname -m)-linux-gnu
loader=$(find "$dest" -name 'ld-linux-*.so.*' -print -quit)
for program in "$dest"/usr/bin/* "$dest"/usr/sbin/*; do
	[ -f "$program" ] && [ ! -L "$program" ] || continue
	case $(basename "$program") in containerd* | ctr | runc | crun | criu | linux.uml) ;; *) continue ;; esac
	if patchelf --print-interpreter "$program" >/dev/null 2>&1; then
		patchelf --set-interpreter "$loader" --force-rpath \
			--set-rpath "$dest/usr/lib/$triplet:$dest/lib/$triplet" "$program"
	fi
done
