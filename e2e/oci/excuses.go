package main

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// excuse says why a complaint of a program is not gosudacon's fault.
type excuse struct {
	complaint *regexp.Regexp // the complaints that it covers
	why       string
	holds     func() bool // whether it is so on this machine
	races     bool        // the complaint may not come although it is so
}

// excused finds the excuse for a program's complaint that holds here.
func excused(program, complaint string) (excuse, bool) {
	for _, e := range excuses[program] {
		if e.complaint.MatchString(complaint) && e.holds() {
			return e, true
		}
	}
	return excuse{}, false
}

// excuses by the programs' names. Those of the machine are looked for; those of a program, whose source is what it is, always hold.
var excuses = map[string][]excuse{
	"delete": {{regexp.MustCompile("a container that is not `stopped`"),
		"a created container is deleted without --force, as runc and crun do and their callers rely on", always, false}},
	"hooks_stdin": {{regexp.MustCompile(`passed to "prestart" hook`),
		"the program wants the status created; that is what the spec calls a container whose create has finished, and its hooks are part of create", always, false}},
	"delete_only_create_resources": {onlyV1},
	"delete_resources":             {pidsPointer, onlyV1},
	"linux_cgroups_pids":           {pidsPointer, onlyV1},
	"linux_cgroups_relative_pids":  {pidsPointer, onlyV1},
	"linux_cgroups_blkio":          {leafWeight, onlyV1},
	"linux_cgroups_relative_blkio": {leafWeight, onlyV1},
	"linux_cgroups_cpus":           {onlyV1},
	"linux_cgroups_relative_cpus":  {onlyV1},

	"linux_cgroups_devices":          {onlyV1},
	"linux_cgroups_relative_devices": {onlyV1},

	"linux_cgroups_hugetlb":          {hugetlbElsewhere, onlyV1},
	"linux_cgroups_relative_hugetlb": {hugetlbElsewhere, onlyV1},
	"linux_cgroups_memory":           {kernelMemory, onlyV1},
	"linux_cgroups_relative_memory":  {kernelMemory, onlyV1},
	"linux_cgroups_network":          {noNetCgroupsWithInterfaces, secondInterface},
	"linux_cgroups_relative_network": {noNetCgroups},

	"linux_mount_label": {{regexp.MustCompile("linux.mountLabel: SELinux is not enabled"),
		"this kernel has no SELinux to take the label", func() bool { return !exists("/sys/fs/selinux/enforce") }, false}},
	"linux_process_apparmor_profile": {{regexp.MustCompile("process.apparmorProfile: AppArmor is not enabled"),
		"this kernel has no AppArmor to take the profile", func() bool { return !contains("/sys/module/apparmor/parameters/enabled", "Y") }, false}},
	"misc_props": {{regexp.MustCompile("unknown annotation key"),
		"the program's container executes /runtimetest, which it does not put there: create says so", always, false}},
	"linux_ns_itype": {{regexp.MustCompile("mounts: needs a new mount namespace"), sharedMounts, always, false}},
	"linux_ns_path":  {{regexp.MustCompile("^set mnt namespace by path"), sharedMounts, always, false}},
	"mounts": {{regexp.MustCompile(`^mounts\[\d+\] \(/mnt/etc-\w+\) found in order`),
		"since Linux 6.8 mountinfo is in the order in which mounts were made, not attached; the sources of bind mounts are opened first", linux(6, 8), false}},
	"pidfile": {{regexp.MustCompile("create with '--pid-file' option works"),
		"the program kills a container that has ended, and takes the error that kill must give (program kill) for one of the pid file", always, true}},
	"process_capabilities": {{regexp.MustCompile("^expected .* capability CAP_SYS_RESOURCE set"),
		"this machine's root lacks CAP_SYS_RESOURCE: the spec has a capability that cannot be granted left out", lacksSysResource, false}},
	"process_capabilities_fail": {{regexp.MustCompile("cannot be mapped to a relevant kernel interface MUST cause an error"),
		"the program has the rule of runtime-spec 1.0; since then an unknown capability is a warning", always, false}},
	"process_rlimits": {{regexp.MustCompile("^has expected soft RLIMIT_NOFILE"),
		"the program in the container is a Go program, which raises this limit when it starts (Go 1.19)", always, false}},
	"start": {
		{regexp.MustCompile("MUST generate an error if `process` was not set"), "the program wants the opposite of what it says: that start succeeds", always, false},
		{regexp.MustCompile("^timeout in waiting for the container status"), "nor does the container end, which was not started", always, false},
	},
}

// sharedMounts is what gosudacon refuses, and not for want of anything in the kernel.
const sharedMounts = "mounts of a container without a mount namespace of its own would stay in somebody else's when it has ended: refused"

var (
	pidsPointer = excuse{regexp.MustCompile(`^pids limit is set correctly \(expect: \d{8,}, actual: \d{8,}\)`),
		"the program compares the addresses of two numbers instead of the numbers", func() bool { return !pureV2() }, false}
	leafWeight = excuse{regexp.MustCompile("blkio.leaf_weight"),
		"this kernel has no blkio.leaf_weight (Linux 5.0 took it away)", func() bool { return !exists("/sys/fs/cgroup/blkio/blkio.leaf_weight") && !pureV2() }, false}
	hugetlbElsewhere = excuse{regexp.MustCompile("hugetlb|relative to the cgroups mount point"),
		"the program looks for the hugetlb controller in the hierarchies of v1, and this machine has it elsewhere or not at all", func() bool {
			return !exists("/sys/fs/cgroup/hugetlb") && !pureV2()
		}, false}
	kernelMemory = excuse{regexp.MustCompile("linux.resources.memory.kernel: this kernel ignores"),
		"this kernel ignores the limit of kernel memory (Linux 5.16)", func() bool { return linux(5, 16)() && !pureV2() }, false}
	noNetCgroups = excuse{regexp.MustCompile("no net_(cls|prio) controller"),
		"this machine has no net_cls and net_prio hierarchies mounted", noNetHierarchies, false}
	noNetCgroupsWithInterfaces = excuse{noNetCgroups.complaint, noNetCgroups.why, func() bool { return noNetHierarchies() && !oneInterface() }, false}
	secondInterface            = excuse{regexp.MustCompile("linux_cgroups_network.go"),
		"the program takes the second network interface, and this machine has one", oneInterface, false}
	onlyV1 = excuse{regexp.MustCompile("."),
		"the program knows cgroup v1 alone, and this machine has v2 alone", pureV2, false}
)

func noNetHierarchies() bool {
	return !exists("/sys/fs/cgroup/net_cls") && !exists("/sys/fs/cgroup/net_prio")
}

func always() bool { return true }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func contains(path, text string) bool {
	data, err := os.ReadFile(path)
	return err == nil && strings.Contains(string(data), text)
}

func oneInterface() bool {
	list, err := net.Interfaces()
	return err == nil && len(list) < 2
}

func pureV2() bool { return exists("/sys/fs/cgroup/cgroup.controllers") }

// linux tells whether the kernel is at least of this version.
func linux(major, minor int) func() bool {
	return func() bool {
		var u unix.Utsname
		if unix.Uname(&u) != nil {
			return false
		}
		var a, b int
		n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
		return n == 2 && (a > major || a == major && b >= minor)
	}
}

func lacksSysResource() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Permitted&(1<<unix.CAP_SYS_RESOURCE) == 0
}
