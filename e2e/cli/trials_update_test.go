package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// limit reads a limit of the container: a file of cgroup v1, or of v2.
func (a *attempt) limit(controller, v1, v2 string) string {
	dir := cgroupDir(a.t, a.cgroups+"/c", controller)
	for _, name := range []string{v1, v2} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	a.want(false, "%s has neither %s nor %s", dir, v1, v2)
	return ""
}

// limitTrial sets a limit and reads it again: it has the value of v1 on cgroup v1, and another than before on v2.
func limitTrial(option, value, controller, v1, v2, want string) trial {
	return trial{option: option, shown: value + ", in " + v1, try: func(a *attempt) {
		a.start()
		before := a.limit(controller, v1, v2)
		a.do("update", option, value, "c")
		now := a.limit(controller, v1, v2)
		if strings.Contains(cgroupDir(a.t, a.cgroups+"/c", controller), "/"+controller+"/") {
			a.equal(now, want)
		} else {
			a.want(now != before, "%s is %s as before", v2, now)
		}
	}}
}

var updateTrials = []trial{
	{option: "", shown: "without options: nothing changes", try: func(a *attempt) {
		a.start()
		a.do("update", "c")
	}},
	{option: "--resources", shown: "linux.resources from the standard input", try: func(a *attempt) {
		a.start()
		cmd := a.command("update", "--resources", "-", "c")
		cmd.Stdin = strings.NewReader(`{"pids": {"limit": 21}}`)
		a.succeeds(cmd)
		a.equal(a.limit("pids", "pids.max", "pids.max"), "21")
	}},
	limitTrial("--blkio-weight", "300", "blkio", "blkio.bfq.weight", "io.bfq.weight", "300"),
	limitTrial("--cpu-period", "50000", "cpu", "cpu.cfs_period_us", "cpu.max", "50000"),
	limitTrial("--cpu-quota", "20000", "cpu", "cpu.cfs_quota_us", "cpu.max", "20000"),
	{option: "--cpu-burst", shown: "5000, in cpu.cfs_burst_us", try: func(a *attempt) {
		a.start()
		a.do("update", "--cpu-quota", "20000", "c")
		a.do("update", "--cpu-burst", "5000", "c")
		a.equal(a.limit("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "5000")
	}},
	limitTrial("--cpu-share", "512", "cpu", "cpu.shares", "cpu.weight", "512"),
	limitTrial("--cpu-idle", "1", "cpu", "cpu.idle", "cpu.idle", "1"),
	{option: "--cpu-rt-period", shown: "500000, in cpu.rt_period_us", v1: true, try: func(a *attempt) {
		a.start()
		a.do("update", "--cpu-rt-period", "500000", "c")
		a.equal(a.limit("cpu", "cpu.rt_period_us", ""), "500000")
	}},
	{option: "--cpu-rt-runtime", shown: "1000, in cpu.rt_runtime_us", v1: true, try: func(a *attempt) {
		a.start()
		a.check(os.WriteFile(filepath.Join(cgroupDir(a.t, a.cgroups, "cpu"), "cpu.rt_runtime_us"), []byte("2000"), 0))
		a.do("update", "--cpu-rt-runtime", "1000", "c")
		a.equal(a.limit("cpu", "cpu.rt_runtime_us", ""), "1000")
	}},
	{option: "--cpuset-cpus", shown: "0, in cpuset.cpus", try: func(a *attempt) {
		a.start()
		a.do("update", "--cpuset-cpus", "0", "c")
		a.equal(a.limit("cpuset", "cpuset.cpus", "cpuset.cpus"), "0")
	}},
	{option: "--cpuset-mems", shown: "0, in cpuset.mems", try: func(a *attempt) {
		a.start()
		a.do("update", "--cpuset-mems", "0", "c")
		a.equal(a.limit("cpuset", "cpuset.mems", "cpuset.mems"), "0")
	}},
	limitTrial("--memory", "67108864", "memory", "memory.limit_in_bytes", "memory.max", "67108864"),
	limitTrial("--memory-reservation", "33554432", "memory", "memory.soft_limit_in_bytes", "memory.low", "33554432"),
	{option: "--memory-swap", shown: "with --memory, in memory.memsw.limit_in_bytes", try: func(a *attempt) {
		a.start()
		a.do("update", "--memory", "67108864", "--memory-swap", "134217728", "c")
		if got := a.limit("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"); got != "67108864" {
			a.equal(got, "134217728")
		}
	}},
	limitTrial("--pids-limit", "20", "pids", "pids.max", "pids.max", "20"),
	{option: "--kernel-memory", shown: "a limit of kernel memory", v1: true, try: func(a *attempt) {
		a.start()
		a.do("update", "--kernel-memory", "67108864", "c")
		a.equal(a.limit("memory", "memory.kmem.limit_in_bytes", ""), "67108864")
	}},
	{option: "--kernel-memory-tcp", shown: "a limit of kernel memory for TCP", v1: true, try: func(a *attempt) {
		a.start()
		a.do("update", "--kernel-memory-tcp", "67108864", "c")
		a.equal(a.limit("memory", "memory.kmem.tcp.limit_in_bytes", ""), "67108864")
	}},
	{option: "--l3-cache-schema", shown: "an error without Intel RDT", try: func(a *attempt) { a.rdt("--l3-cache-schema", "L3:0=f") }},
	{option: "--mem-bw-schema", shown: "an error without Intel RDT", try: func(a *attempt) { a.rdt("--mem-bw-schema", "MB:0=50") }},
}

// rdt tries an option that no machine of ours can honour.
func (a *attempt) rdt(option, value string) {
	a.start(func(s *specs.Spec) { s.Linux.IntelRdt = nil })
	a.want(!exists("/sys/fs/resctrl/info"), "here is Intel RDT, the trial has to be another")
	res := a.rig.run("update", option, value, "c")
	a.want(res.code != 0, "%s is ignored", option)
}
