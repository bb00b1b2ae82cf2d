#!/bin/bash
# cgroup2.sh TREE PACKAGES SUITES [ARGUMENT...] runs the test programs that make test-cgroup2 has built in TREE/.cache/cgroup2, each in
# its package's directory, on the kernel that it is started on: those of PACKAGES, then those of SUITES ("shimdrive task", or
# none). Arguments go to the containerd tests.
set -uo pipefail

tree=$1 packages=$2 suites=$3
shift 3
bad=0

where="cgroup v2"
[ -e /sys/fs/cgroup/cgroup.controllers ] || where="cgroup v1"
[ ! -d /run/systemd/system ] || where+=" with systemd"
where+=", Linux $(uname -r)"

# try DIRECTORY PROGRAM ARGUMENT... runs one program and prints a line as go test does.
try() {
	local dir=$1 program=$tree/.cache/cgroup2/$2 began=$SECONDS
	shift 2
	cd "$tree/$dir" || exit 1
	if "$program" -test.short -test.timeout 30m "$@"; then
		printf 'ok  \t%s on %s\t%ds\n' "$dir" "$where" $((SECONDS - began))
	else
		printf 'FAIL\t%s on %s\t%ds\n' "$dir" "$where" $((SECONDS - began))
		bad=1
	fi
}

for package in $packages; do
	try "${package#./}" "unit/$(basename "$package").test"
done
for suite in $suites; do
	case $suite in
	task) try e2e/task e2e/task.test -events 20 "$@" ;;
	*) try "e2e/$suite" "e2e/$suite.test" ;;
	esac
done
exit $bad
