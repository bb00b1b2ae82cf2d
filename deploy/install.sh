#!/bin/sh
# install.sh [install | remove | stay | leave] puts gosuda on a machine with containerd 2, or takes it away again.
#
#   install   copy the shim, add a handler `gosuda` to containerd's configuration, restart containerd
#   remove    take both away again; refused while containers of gosuda are there
#   stay      install, then wait to be killed: for a DaemonSet
#   leave     remove, then wait to be killed
#
# What can be set, with the default:
#   SHIM=../bin/containerd-shim-gosuda-v2   the program to install, beside this script or where make build leaves it
#   PREFIX=/usr/local                       it goes into PREFIX/bin
#   CONFIG=/etc/containerd/config.toml      containerd's configuration; the handler goes into conf.d beside it
#   STATE=/run/containerd                   containerd's state
#   CONTAINERD=containerd                   the program, which checks the configuration before it is used
#   RESTART='systemctl restart containerd'  how to restart it; without systemd, whatever the machine has for that. It must fail when containerd does.
#   ROOT=                                   the machine's file system, for an installer in a container
#   ON_HOST=                                what comes before commands to run them on the machine
#
# It is safe to run again: what is in place stays, and containerd is restarted only when its configuration changed. Containers that run
# go on: a restart of containerd does not stop them, and their shims keep the program that they were started from. When containerd does not
# like the configuration, or does not come back, everything is as it was before.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
name=containerd-shim-gosuda-v2
shim=${SHIM:-}
for candidate in "$here/$name" "$here/../bin/$name"; do
	[ -n "$shim" ] || [ ! -f "$candidate" ] || shim=$candidate
done
prefix=${PREFIX:-/usr/local}
config=${CONFIG:-/etc/containerd/config.toml}
state=${STATE:-/run/containerd}
containerd=${CONTAINERD:-containerd}
restart=${RESTART:-systemctl restart containerd}
root=${ROOT:-}
on_host=${ON_HOST:-}

program=$prefix/bin/$name
conf_d=$(dirname "$config")/conf.d
drop_in=$conf_d/gosuda.toml
import="imports = ['$conf_d/*.toml'] # gosuda"

say() { echo "gosuda: $*" >&2; }
fail() { say "$*"; exit 1; }

# replace FILE MODE puts standard input in FILE's place at once. A program is copied with one write: the page cache then holds it in
# large pieces, which every start of it maps faster.
replace() {
	dd of="$root$1.gosuda-new" bs=16M status=none
	chmod "$2" "$root$1.gosuda-new"
	mv -f "$root$1.gosuda-new" "$root$1"
}

# dump prints the configuration as containerd understands it.
dump() { $on_host $containerd --config "$config" config dump; }

# handlers lists the runtime handlers of such a text.
handlers() { sed -n "s/^ *\[plugins\.['\"]io\.containerd\.cri\.v1\.runtime['\"]\.containerd\.runtimes\.\([^].]*\)\] *$/\1/p" | sort; }

# configured tells whether containerd would have the handler.
configured() { dump | handlers | grep -qx gosuda; }

# add_import makes the configuration read conf.d, by one line that remove finds again.
add_import() {
	if [ ! -e "$root$config" ]; then
		printf 'version = 3\n%s\n' "$import" | replace "$config" 0644
	elif grep -q '^ *imports *=' "$root$config"; then
		undo "$config has imports, without '$conf_d/*.toml': add that, then run this again"
	else
		# Before the first table, after which a key would be part of it.
		{ echo "$import" && cat "$root$config"; } | replace "$config" 0644
	fi
}

drop_import() {
	[ -e "$root$config" ] || return 0
	if [ "$(cat "$root$config")" = "$(printf 'version = 3\n%s' "$import")" ]; then
		rm -f "$root$config" # it was ours alone
	else
		grep -vxF "$import" "$root$config" | replace "$config" 0644
	fi
}

# unconfigure takes the handler away.
unconfigure() {
	rm -f "$root$drop_in"
	rmdir "$root$conf_d" 2>/dev/null || true
	drop_import
}

# undo brings back what was, when something failed.
undo() {
	say "$1: put the configuration back"
	unconfigure
	[ "${2:-}" != restart ] || $on_host $restart || say "containerd does not start without gosuda either"
	exit 1
}

install_shim() {
	[ -f "$shim" ] || fail "no $name beside this script: set SHIM"
	if cmp -s "$shim" "$root$program"; then
		return
	fi
	mkdir -p "$root$prefix/bin"
	replace "$program" 0755 <"$shim" # running shims keep the old file
	ln -sfn "$name" "$root$prefix/bin/gosudacon"
	say "installed $program"
}

install_all() {
	case $($on_host $containerd --version) in
	*" v2."* | *" 2."*) ;;
	*) fail "needs containerd 2: $($on_host $containerd --version)" ;;
	esac
	before=$(dump) || fail "containerd does not accept its configuration as it is: $config"
	install_shim
	new=$(sed "s|@PROGRAM@|$program|" "$here/gosuda.toml")
	if [ -f "$root$drop_in" ] && [ "$(cat "$root$drop_in")" = "$new" ] && configured; then
		say "the handler is configured"
		return
	fi
	mkdir -p "$root$conf_d"
	echo "$new" | replace "$drop_in" 0644
	configured || add_import
	after=$(dump) || undo "containerd does not accept the configuration"
	for handler in $(echo "$before" | handlers) gosuda; do
		echo "$after" | handlers | grep -qx "$handler" || undo "containerd's configuration loses the handler $handler"
	done
	$on_host $restart || undo "containerd does not come back" restart
	say "containerd has the handler gosuda"
}

# used lists the containers whose shim is ours.
used() { grep -lsxF "$program" "$root$state"/io.containerd.runtime.v2.task/*/*/shim-binary-path || true; }

remove_all() {
	containers=$(used)
	[ -z "$containers" ] || fail "still in use, by the containers of" $containers
	if [ -e "$root$drop_in" ]; then
		unconfigure
		$on_host $restart || fail "restart containerd: failed"
	fi
	rm -f "$root$program" "$root$prefix/bin/gosudacon"
	say "removed"
}

# settle lets containerd answer who started this container: it may be about to be restarted.
settle() { sleep 3; }

wait_for_end() {
	trap 'exit 0' TERM INT
	sleep 2147483647 &
	wait
}

case ${1:-install} in
install) install_all ;;
remove) remove_all ;;
stay) settle; install_all; wait_for_end ;;
leave) settle; remove_all; wait_for_end ;;
*) fail "install, remove, stay or leave? not $1" ;;
esac
