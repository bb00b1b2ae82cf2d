#!/bin/sh
# Runs a command as root on a Linux kernel of its own with pure cgroup v2 (or not: see -1): User Mode Linux over this machine's
# files.
#
#   e2e/uml/run.sh [-s [-1]] [-t SECONDS] [-m MEMORY] COMMAND [ARGUMENT...]
#
#   -s  boot systemd first and run the command as one of its services
#   -1  have systemd mount cgroup v1, with a cgroup2 tree beside it
#   -t  how long the machine may live (600)
#   -m  its memory (2G)
#
# The command gets the caller's environment and directory; its output, both streams in one, comes out here, and its exit
# status is ours. 124 means that the time was over, 125 that the machine did not get as far as running it.
#
# It sees the files of this machine, and whatever it writes is gone afterwards: its root is an overlay with the changes
# in memory. /run and $TMPDIR are tmpfs, for what an overlay cannot hold, such as the upper directory of another overlay.
# There is one CPU and no network. Debian's user-mode-linux and kmod are installed if they are missing.
#
# UML_KERNEL and UML_MODULES name another kernel and the directory with its modules; without them it is Debian's, or that of Debian sid
# where that does not run.
set -eu

usage() {
	echo "usage: $0 [-s [-1]] [-t seconds] [-m memory] command [argument...]" >&2
	exit 125
}

systemd= # or the version of cgroups that it is to mount
seconds=600
memory=2G
while getopts s1t:m: option; do
	case $option in
	s) systemd=${systemd:-2} ;;
	1) systemd=1 ;;
	t) seconds=$OPTARG ;;
	m) memory=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage

# install makes sure that a file is there, by Debian's package if need be.
install() {
	[ -e "$1" ] && return
	echo "$0: installing $2" >&2
	apt-get install -y --no-install-recommends "$2" >/dev/null 2>&1 ||
		{ apt-get update && apt-get install -y --no-install-recommends "$2"; } >/dev/null 2>&1 ||
		{ echo "$0: cannot install $2, for $1" >&2; exit 125; }
}
here=$(cd "$(dirname "$0")" && pwd)
# Debian 12's kernel cannot give a process its registers back on a processor with AMX, which has more of them than it knows of, and ptrace
# takes them all or none: "set fp regs failed, errno = 14". Since Linux 6.13 it asks how many there are.
if [ -z "${UML_KERNEL:-}" ] && grep -qw amx_tile /proc/cpuinfo; then
	(cd "$here/../.." && make -s .cache/peers/uml-sid) >&2 || exit 125
	UML_KERNEL=$here/../../.cache/peers/uml-sid/usr/bin/linux.uml
	UML_MODULES=$here/../../.cache/peers/uml-sid/usr/lib/uml/modules
	export UML_KERNEL UML_MODULES
fi
[ -n "${UML_KERNEL:-}" ] || install /usr/bin/linux.uml user-mode-linux
install /sbin/insmod kmod
[ -z "$systemd" ] || install /lib/systemd/systemd systemd
[ -z "$systemd" ] || install /usr/bin/dbus-daemon dbus

work=$(mktemp -d /var/tmp/gosuda-uml.XXXXXX)
trap 'rm -rf "$work"' EXIT
machine=
trap '[ -z "$machine" ] || kill "$machine"; exit 143' INT TERM HUP
mkdir "$work/root"
truncate -s 1M "$work/disk" # something to limit the input and output of

# quote prints words so that a shell reads them again as they are.
quote() {
	for word; do
		printf "'%s' " "$(printf '%s\n' "$word" | sed "s/'/'\\\\''/g")"
	done
}
{
	export -p
	printf 'cd %s\n' "$(quote "$PWD")"
	printf 'export TMPDIR=/srv\n'
	printf 'exec %s\n' "$(quote "$@")"
} >"$work/command"

# The machine's memory is a file, deleted at once. On a disk that is busy writing what was changed in it, the machine would stop, for
# the better part of a minute even.
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] &&
	[ "$(df --output=avail -B1 /dev/shm | tail -n 1)" -ge "$(numfmt --from=iec "$memory")" ]; then
	TMPDIR=/dev/shm
	export TMPDIR
fi

# The kernel talks on the first console, the command on the second. What the kernel does not know of these words becomes init's environment.
status=0
timeout --kill-after=10 "$seconds" "${UML_KERNEL:-/usr/bin/linux.uml}" \
	"mem=$memory" "ubd0=$work/disk" root=/dev/root rootfstype=hostfs rootflags=/ rw con=null con0=null,fd:2 con1=null,fd:1 \
	"uml_dir=$work" "init=$here/init.sh" "uml_work=$work" "uml_systemd=$systemd" "uml_modules=${UML_MODULES:-/usr/lib/uml/modules}" \
	</dev/null 2>"$work/kernel" &
machine=$!
wait "$machine" || status=$?
machine=
if [ -e "$work/status" ]; then
	status=$(cat "$work/status")
	# What killed a process for want of anything says so nowhere else: one that has 65,000 pages, each of which is a mapping here
	# (vm.max_map_count), is killed.
	[ "$status" -eq 0 ] || grep -iE 'out of memory on the host|failed to|BUG:|panic|stall' "$work/kernel" >&2 || true
elif [ "$status" -ne 124 ] && [ "$status" -ne 137 ]; then
	cat "$work/kernel" >&2
	echo "$0: the machine ended with status $status before the command did" >&2
	status=125
else
	echo "$0: not finished after $seconds seconds" >&2
	status=124
fi
exit "$status"
