# private-apt.sh is sourced: an apt of its own, with the packages of a Debian suite and nothing installed. Nothing of the machine changes:
# sources, lists, cache and status file are in a directory; the mirror is the one of the machine's own apt sources.
#
#   private_apt_setup SUITE DIR [ARCHITECTURE]   makes it in DIR and reads the suite's lists
#   private_apt COMMAND ARGUMENT...              runs COMMAND (apt-get -qq, apt-cache) with it

private_apt_setup() {
	local suite=$1 dir=$2 architecture=${3:-} mirror
	mkdir -p "$dir"/{lists/partial,cache/archives/partial}
	: >"$dir/status"
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(SUITE)' 'Origin: Debian' 'Created-By: Packages' |
		awk '$3 !~ /security/ { print $1; exit }')
	if [ -z "$mirror" ]; then
		echo "$(basename "$0"): find the machine's Debian mirror: apt-get indextargets lists none; run apt-get update first" >&2
		return 1
	fi
	printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
		"$mirror" "$suite" >"$dir/private.sources"
	private_apt_options=(
		-o Dir::Etc::sourcelist="$dir/private.sources" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o Dir::State::lists="$dir/lists" -o Dir::State::status="$dir/status" -o Dir::Cache="$dir/cache"
		-o Dir::Cache::archives="$dir/cache/archives" -o APT::Sandbox::User=root -o APT::Install-Recommends=false
		-o APT::Keep-Downloaded-Packages=true -o APT::Update::Post-Invoke::= -o DPkg::Post-Invoke::=)
	if [ "$architecture" ]; then
		private_apt_options+=(-o APT::Architecture="$architecture" -o APT::Architectures="$architecture")
	fi
	private_apt_logged "$dir/log" apt-get -qq update
}

private_apt() {
	local command=$1
	shift
	"$command" "${private_apt_options[@]}" "$@"
}

# private_apt_logged LOG COMMAND ARGUMENT... shows what the command said when it fails.
private_apt_logged() {
	local log=$1
	shift
	private_apt "$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
}
