#!/bin/sh
# uml.sh COMMAND [ARGUMENT...] prepares the machine that e2e/uml boots for the bridge of pods, and runs the command. nf_tables of its
# kernel knows nothing of IPv4, but ip_tables is there.
set -eu
modprobe -a bridge veth
ln -sf /usr/sbin/iptables-legacy /etc/alternatives/iptables
exec "$@"
