package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// descriptors lists what is open, by raw system calls, before the runtime's poller is.
func (r report) descriptors() {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		r["fd"] = failure(err)
		return
	}
	defer unix.Close(dir)
	buf := make([]byte, 8192)
	n, err := unix.ReadDirent(dir, buf)
	if err != nil {
		r["fd"] = failure(err)
		return
	}
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	for _, name := range names {
		if name == strconv.Itoa(dir) {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + name)
		if kind, _, found := strings.Cut(target, ":["); found {
			target = kind
		}
		if target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" || target == "anon_inode" {
			continue // ours
		}
		r["fd "+name] = value(target, err)
	}
}

func (r report) process(*ask.Question) {
	r["argv"] = fmt.Sprintf("%q", os.Args)
	r["env"] = fmt.Sprintf("%q", os.Environ())
	dir, err := unix.Getwd()
	r["cwd"] = value(dir, err)
	groups, err := unix.Getgroups()
	slices.Sort(groups)
	r["groups"] = value(groups, err)
	umask := unix.Umask(0)
	unix.Umask(umask)
	r["umask"] = fmt.Sprintf("%04o", umask)
	pid := os.Getpid()
	if pid == 1 {
		r["pid"] = "1"
	}
	sid, err := unix.Getsid(0)
	r["sid"] = value(ownOr(sid, pid), err)
	pgid, err := unix.Getpgid(0)
	r["pgid"] = value(ownOr(pgid, pid), err)
	var u unix.Utsname
	err = unix.Uname(&u)
	r["hostname"] = value(unix.ByteSliceToString(u.Nodename[:]), err)
	r["domainname"] = value(unix.ByteSliceToString(u.Domainname[:]), err)
	r["machine"] = value(unix.ByteSliceToString(u.Machine[:]), err)
}

func ownOr(id, pid int) string {
	if id == pid {
		return "own"
	}
	return "of another"
}

// attributes are those that only system calls tell.
func (r report) attributes(*ask.Question) {
	prctl := func(name string, option int) {
		v, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, uintptr(option), 0, 0, 0, 0, 0)
		if errno != 0 {
			r["prctl "+name] = failure(errno)
		} else {
			r["prctl "+name] = strconv.Itoa(int(v))
		}
	}
	prctl("dumpable", unix.PR_GET_DUMPABLE)
	prctl("keepcaps", unix.PR_GET_KEEPCAPS)
	prctl("securebits", unix.PR_GET_SECUREBITS)
	prctl("timerslack", unix.PR_GET_TIMERSLACK)
	prctl("thp disable", unix.PR_GET_THP_DISABLE)
	var number int32
	for name, option := range map[string]int{"pdeathsig": unix.PR_GET_PDEATHSIG, "child subreaper": unix.PR_GET_CHILD_SUBREAPER} {
		err := unix.Prctl(option, uintptr(unsafe.Pointer(&number)), 0, 0, 0)
		r["prctl "+name] = value(number, err)
	}
	attr, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		r["scheduler"] = fmt.Sprintf("policy %d flags %#x nice %d priority %d runtime %d deadline %d period %d",
			attr.Policy, attr.Flags, attr.Nice, attr.Priority, attr.Runtime, attr.Deadline, attr.Period)
		if attr.Policy == unix.SCHED_NORMAL || attr.Policy == unix.SCHED_BATCH {
			r["scheduler"] = fmt.Sprintf("policy %d flags %#x nice %d", attr.Policy, attr.Flags, attr.Nice) // runtime is the slice
		}
	} else {
		r["scheduler"] = failure(err)
	}
	const ioprioWhoProcess = 1
	prio, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
	r["ioprio"] = result(fmt.Sprintf("class %d data %d", prio>>13, prio&(1<<13-1)), errno)
	persona, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	r["personality"] = result(fmt.Sprintf("%#x", persona), errno)
	var mode int32
	nodes := make([]uint64, 16)
	_, _, errno = unix.RawSyscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&nodes[0])), 1024, 0, 0, 0)
	r["mempolicy"] = result(fmt.Sprintf("mode %#x nodes %#x", mode, nodes[0]), errno)
	buf := make([]byte, 512)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING, buf, 0)
	r["session keyring"] = value(strings.TrimRight(string(buf[:max(n, 0)]), "\x00"), err)
}

func result(v string, errno unix.Errno) string {
	if errno != 0 {
		return failure(errno)
	}
	return v
}

// statusFields are the lines of /proc/self/status that a runtime has a say in.
var statusFields = []string{"Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
	"NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch", "Cpus_allowed_list", "Mems_allowed_list",
	"THP_enabled", "CoreDumping", "TracerPid"}

// status reads the files of /proc/self. Those that Go changes at its start are read by a child.
func (r report) status(*ask.Question) {
	for line := range strings.Lines(read("/proc/self/status")) {
		name, v, found := strings.Cut(strings.TrimSpace(line), ":")
		if found && slices.Contains(statusFields, name) && !strings.HasPrefix(name, "Sig") {
			r["status "+name] = strings.TrimSpace(v)
		}
	}
	if text, err := self(ask.Cat, "/proc/self/status"); err == nil {
		for line := range strings.Lines(text) {
			name, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			if strings.HasPrefix(name, "Sig") && slices.Contains(statusFields, name) {
				r["status "+name] = strings.TrimSpace(v)
			}
		}
	}
	limits, err := self(ask.Cat, "/proc/self/limits")
	if err != nil {
		r["limits"] = failure(err)
	}
	for line := range strings.Lines(limits) {
		if rest, found := strings.CutPrefix(line, "Max "); found && len(rest) > 22 {
			r["limit "+strings.TrimSpace(rest[:22])] = strings.Join(strings.Fields(rest[22:]), " ")
		}
	}
	for _, name := range []string{"oom_score_adj", "uid_map", "gid_map", "setgroups", "timens_offsets", "attr/current", "coredump_filter", "loginuid"} {
		var lines []string
		for line := range strings.Lines(read("/proc/self/" + name)) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		r["proc "+name] = strings.Join(lines, ", ")
	}
}
