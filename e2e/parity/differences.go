package main

import (
	"regexp"
	"strings"
)

// difference explains why a field of gosudacon is not as a peer has it.
type difference struct {
	peer            string
	bundles, fields *regexp.Regexp // all of whose matches it explains
	why             string
	sometimes       bool // not in every run
}

// explanation finds the difference that explains a field of a bundle, or -1.
func explanation(peer, bundle, field string) int {
	for i, d := range differences {
		if d.peer == peer && d.bundles.MatchString(bundle) && d.fields.MatchString(field) {
			return i
		}
	}
	return -1
}

// differences are those of everything that is explained, in groups: the peers, bundles and fields they are about, the reason, and a fifth
// word for those that are not in every run.
var differences = explain([][]string{
	// Masks. Each runtime hides a path with a mount of its own making; what the container reads, writes and lists is compared as well.
	{"runc crun", `.`, `^mount (/proc/(acpi|keys|timer_list|asound|scsi|kcore)|/sys/(firmware|devices/.*)|/data(/file)?|/mnt/file)(#2)? (options|root|source|super|type|propagation)$`,
		"a directory is hidden by an empty read-only tmpfs, a file by /dev/null of the host: runc takes the container's /dev/null, which the container's owner may have replaced; crun takes a directory of its own on the host"},
	{"runc crun", `^masked-(directory|symlink)$`, `^file /data$`, "the mode of the empty directory that hides another is not that of runc (1777) and crun (0555)"},

	// Keyring.
	{"runc crun", `.`, `^session keyring$`,
		"named like runc's, with a random part so that nobody joins it by name; other processes of the same user may search, not link it"},

	// What the runtimes say of themselves.
	{"crun", `.`, `^(state (created|stopped)|hook \d \w+ state) ociVersion$`, "crun always answers 1.0.0, and its hooks 1.0; the spec wants the version of the spec that the state complies with"},
	{"crun", `^hook-`, `^hook \d \w+ env$`, "crun adds a variable of its own, _LIBCONTAINER_CLONED_BINARY"},
	{"crun", `^hook-`, `^hook \d \w+ state (bundle|status)$`, "crun says created, or starting, before create has finished, and / for the bundle in startContainer"},
	{"runc", `^hook-(poststart|all)`, `^hook \d \w+ state status$`, "runc says created in poststart, whose container runs (runc issue 4347)"},
	{"crun", `^hook-`, `^hook \d \w+ init$`, "the pid in the state of hooks inside the container is that of its pid namespace, as with runc; crun's is the host's"},
	{"crun", `^hook-(createContainer|all)`, `^hook \d \w+ cwd$`, "createContainer hooks start in the root file system, as with runc"},
	{"runc", `^hook-`, `^hook \d poststop cwd$|^hook \d (one|two) cwd$`, "the spec does not say where hooks start: poststop starts in the bundle, as the others; with runc where delete was called"},
	{"runc", `^hook-(createContainer|all)`, `^hook \d \w+ env$`, "a hook without env inherits the runtime's, as with crun and in the other hooks of runc"},

	// Errors of hooks, by the spec's runtime.md, "Lifecycle".
	{"runc crun", `^hook-startContainer-`, `^start$`, "a startContainer hook that fails makes start fail; the peers' start has returned before the hook runs"},
	{"runc", `^hook-poststart-`, `^create$`, "runc runs poststart hooks in create (runc issue 4347)"},
	{"crun", `^hook-poststart-`, `^(delete|state stopped.*)$`, "crun deletes a container whose poststart hook fails; the spec has it stopped and the error returned"},
	{"runc", `^hook-poststop-`, `^(delete|hooks|hook 2 .*)$`, "a poststop hook that fails is logged and the others run, as the spec says; runc stops there"},
	{"crun", `^hook-timeout-0$`, `^create$`, "the spec wants a timeout above zero"},

	// Process.
	{"crun", `^args-none$`, `^create$`, "process.args is required, and runc refuses as well"},
	{"crun", `^env-no-equals$`, `^create$`, "an entry without = is no variable; runc refuses as well"},
	{"crun", `^env-home-empty$`, `^env$`, "an empty HOME is set from the container's passwd, as with runc"},
	{"runc", `^bind-file-existing$`, `^env$`, "HOME is / for a user without an entry in the container's passwd, as with crun; runc leaves it empty"},
	{"crun", `^cwd-relative$`, `^create$`, "process.cwd must be absolute; runc refuses as well"},
	{"runc crun", `^user-name$`, `^create$`, "process.user.username is of Windows; the peers ignore it and run as root"},
	{"crun", `^apparmor$`, `^create$`, "without AppArmor in the kernel the profile cannot be applied; crun ignores it, runc refuses as well"},
	{"crun", `^mount-label$`, `^create$`, "without SELinux in the kernel the label cannot be applied; crun ignores it, runc refuses as well"},
	{"runc crun", `^version-(future|none)$`, `^create$`, "ociVersion is required, and 2.x is not known"},
	{"runc", `^process-none$`, `^create$`, "process is not required until start"},
	{"crun", `^process-none$`, `^start$`, "start without a process must be an error"},
	{"runc crun", `^limit-twice$`, `^create$`, "duplicate limits must be an error"},
	{"crun", `^scheduler-bad-nice$`, `^create$`, "nice 30 does not exist; runc refuses as well"},

	// Capabilities.
	{"runc crun", `^caps-(effective-alone|beyond-the-host)$`, `^create$`, "what cannot be granted is left out with a warning, as the spec says; the peers fail"},
	{"runc", `^caps-none$`, `^status Cap`, "without process.capabilities the process has none, as with crun; runc leaves it all of its own"},
	{"runc", `^caps-lower-case$`, `^status Cap`, "names are known in lower case, as with crun"},

	// Namespaces.
	{"crun", `.`, `^(outside )?cgroup memory$|^mount /sys/fs/cgroup/memory root$`, "a relative cgroupsPath is below the runtime's own cgroup, as with runc; crun's is below the hierarchy's root"},
	{"runc", `^join-`, `^mount /sys super$`, "the superblock is one of the joined network namespace, and read-only as its first mount was: of whichever bundle", "sometimes"},
	{"runc", `^userns-shared-net$`, `^create$`, "sysfs of the host's network is mounted by the parent; runc cannot"},
	{"crun", `^userns-shared-net$`, `^mount /sys`, "sysfs of the host's network is mounted; crun shows the host's /sys, with its cgroups, instead"},
	{"crun", `^join-time$`, `^create$`, "crun 1.27 ends without an error text"},
	{"runc crun", `^mappings-without$`, `^create$`, "mappings need a user namespace; the peers ignore them"},
	{"runc crun", `^(all-new|userns-|join-user|idmap-userns|sysctl-in-userns|hook-userns)`, `^device /dev/mqueue$`,
		"the root of mqueue belongs to who made the ipc namespace, here at once with the user namespace; mode 1777 makes it everybody's"},
	{"crun", `.`, `^mount /dev/(full|null|random|tty|urandom|zero) options$`, "devices are bound as the host has them, as with runc; crun adds nosuid and noexec"},
	{"crun", `^userns-devices$`, `^create$`, "a user namespace gets devices from the host by their path; crun makes the node on the host"},

	{"crun", `^host-mount$`, `^create$`, "mounts in the host's mount namespace would stay there: refused, as with runc"},

	// Mounts.
	{"crun", `^bind-symlink-(dangling|out)$`, `^create$`, "a mount point behind a dangling link is made inside the root file system, as with runc"},
	{"runc crun", `-r?norelatime$`, `^mount /mnt(/below)? options$`, "norelatime is the opposite of relatime: strictatime, as mount(8) has it; the peers clear a flag that is the default"},
	{"runc", `^(tmpfs|bind)-defaults$`, `^create$`, "defaults is an option of the spec"},
	{"crun", `^tmpfs-(iversion|loud|noiversion|nosymfollow|silent|symfollow)$`, `^create$`, "an option of the spec that crun does not know"},
	{"crun", `^bind-r?nosymfollow$|^bind-rrelatime$`, `^mount /mnt(/below)? options$`, "crun does not know nosymfollow, and sets it for rrelatime"},
	{"crun", `^bind-r(nodiratime|diatime|diratime|noatime|atime|strictatime|nostrictatime)$|^bind-ratime$`, `^create$`, "an option of the spec that crun's mount_setattr fails with"},
	{"crun", `^options-last-wins$`, `.`, "the last of ro and rw, exec and noexec counts, as with runc"},
	{"crun", `^bind-over-proc$`, `^create$`, "what is mounted on /proc must be a proc file system, as with runc (CVE-2019-16884)"},
	{"runc", `^bind-with-data$`, `^create$`, "mount(2) ignores data of a bind mount: a warning, as with crun"},
	{"runc crun", `^bind-no-option$`, `^create$`, "the type bind is a bind mount without the option bind as well"},
	{"crun", `^bind-deep-missing$`, `^file /a`, "directories that are made for a mount have mode 0755, as with runc"},
	{"runc", `^proc-(subset|none)$`, `^create$`, "runc needs a whole /proc in the container"},
	{"crun", `.`, `^mount (/sys|/proc(/\w+)?) super$`, "ro is given to the new file system as well, as with runc"},
	{"crun", `.`, `^write /sys/kernel/mm/ksm/run$`, "of two reasons why not, a read-only file system is named before a missing permission"},
	{"crun", `^(root-)?propagation-`, `^mount (/mnt|/) propagation$`, "mounts have the propagation that was asked for, as with runc; crun's are private"},
	{"runc crun", `^root-propagation-runbindable$`, `^create$`, "masks are made before the root becomes unbindable; the peers fail at them"},
	{"crun", `^root-propagation-unknown$`, `^create$`, "there is no such propagation; runc refuses as well"},
	{"runc", `cgroup-(ro|rw|ns|ns-rw)$|^userns-cgroup$`, `^mount /sys/fs/cgroup(/\w+)? (options|source|super)$`,
		"the options asked for are those of the tmpfs and of each hierarchy; what stands as their source is of no effect"},
	{"crun", `cgroup-(ro|rw|ns|ns-rw)$|^userns-cgroup$`, `^mount /sys/fs/cgroup(/\w+)? (options|source|super)$`,
		"the options asked for are those of the tmpfs and of each hierarchy; what stands as their source is of no effect"},
	{"runc", `^root-symlink$`, `^create$`, "a root.path that is a symbolic link is resolved when it is opened, once"},
	{"runc crun", `^(masked|readonly|device)-relative$`, `^create$`, "the path must be absolute"},

	// Devices.
	{"crun", `.`, `^device /dev/core$`, "/dev/core is made where the kernel has /proc/kcore, as with runc"},
	{"crun", `^(terminal|userns-terminal)`, `^(device|mount) /dev/console`, "the terminal is mounted on /dev/console, as the spec says and runc does; crun makes a symbolic link"},
	{"crun", `.`, `^knob devices devices.list$`, "crun allows /dev/console, which is a node of no container"},
	{"crun", `^device-rules-none$`, `^write /dev/kmsg$`, "without rules only the default devices are allowed, as with runc"},
	{"runc", `^device-default$`, `^create$`, "runc cannot open /dev/null with mode 0600 when it is done"},
	{"crun", `^device-unknown$`, `^create$`, "there is no such type; runc refuses as well"},
	{"runc crun", `^device-(existing-file|over-symlink)$`, `^create$`, "a file that is not the device must be an error"},

	// Seccomp.
	{"crun", `^seccomp-(containerd|default-errno)`, `^call (file_getattr|open_tree_attr|unknown)$`,
		"system calls younger than the profile are ENOSYS, as with runc: the C library falls back to older ones"},
	{"crun", `^seccomp-flag-unknown$`, `^create$`, "there is no such flag; runc refuses as well"},
	{"crun", `^seccomp-notify-without-listener$`, `^create$`, "nobody would answer the process's calls; runc refuses as well"},

	// Control groups.
	{"runc crun", `^cgroup-path-systemd-form$`, `^create$`, "the form of systemd is taken for one, and systemd does not run here; the peers make a cgroup of that name"},
	{"runc crun", `^cgroup-memory-kernel$`, `^create$`, "the kernel has no such limit any more (Linux 5.16) and would ignore it"},
	{"runc", `^cgroup-memory-kernel-tcp$`, `^knob memory memory.kmem.tcp`, "the kernel has this limit; runc ignores it"},
	{"crun", `^cgroup-cpu-shares-(small|large)$`, `^create$`, "shares are between 2 and 262144; runc refuses as well"},
	{"crun", `^cgroup-pids-0$`, `^probe$`, "a limit of 0 is one (runtime-spec 1.3); crun takes it for none"},
	{"runc crun", `^cgroup-hugepages$`, `^create$`, "the controller is in the cgroup2 hierarchy of this hybrid host, and used there"},
	{"crun", `^cgroup-rdma$`, `^create$`, "there is no rdma controller; runc refuses as well"},
	{"runc crun", `^cgroup-unified$`, `^create$`, "the file exists in the cgroup2 hierarchy of this hybrid host, and is written there"},
})

func explain(groups [][]string) []difference {
	var all []difference
	for _, g := range groups {
		for peer := range strings.FieldsSeq(g[0]) {
			all = append(all, difference{peer, regexp.MustCompile(g[1]), regexp.MustCompile(g[2]), g[3], len(g) > 4})
		}
	}
	return all
}
