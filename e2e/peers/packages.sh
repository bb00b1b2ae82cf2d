#!/bin/bash
# packages.sh PACKAGE... installs those Debian packages that the machine does not have yet. It is silent when there is nothing to do.
set -euo pipefail

missing=()
for package in "$@"; do
	dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "==> install Debian packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -qq update && apt-get -qq --yes --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "packages.sh: install ${missing[*]}: apt-get failed" >&2
	exit 1
fi
