#!/bin/bash
# busybox.sh DEST builds busybox in DEST from the sources of Debian's package, static, with upstream's default configuration, which is how
# the images are made that Kubernetes' tests name.
#
# Debian's own busybox-static will not do for those: it has no ipcs and no pgrep, and its shell runs applets without looking at their
# files, so that it does not notice when one of them is masked.
set -euo pipefail

dest=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial

read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(SUITE)' 'Origin: Debian' 'Created-By: Packages' |
	awk '$2 !~ /security|updates/ { print $1, $2; exit }') || true
if [ -z "${mirror:-}" ]; then
	echo "busybox.sh: find the machine's Debian mirror: apt-get indextargets lists none; run apt-get update first" >&2
	exit 1
fi
printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
	"$mirror" "$suite" >"$work/private.sources"

private_apt() {
	apt-get -qq -o Dir::Etc::sourcelist="$work/private.sources" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root \
		-o APT::Update::Post-Invoke::= "$@"
}
{
	private_apt update
	cd "$work"
	private_apt --download-only source busybox
	mkdir source
	tar -xf busybox_*.orig.tar.* --strip-components=1 -C source
	make -C source defconfig
	# tc needs CBQ, which newer kernel headers do not have.
	sed -i -e 's/.*CONFIG_STATIC[ =].*/CONFIG_STATIC=y/' -e 's/^CONFIG_TC=y/# CONFIG_TC is not set/' source/.config
	make -C source -j"$(nproc)" busybox
} >"$work/log" 2>&1 || { tail -40 "$work/log" >&2; exit 1; }

mkdir -p "$dest"
install -m 0755 "$work/source/busybox" "$dest/busybox"
