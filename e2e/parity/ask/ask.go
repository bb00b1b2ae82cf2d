// Package ask is what the suite and the probe in the container say to each other.
package ask

import (
	"slices"
	"strings"
)

// Paths of the container's root file system.
const (
	Probe = "/probe"     // the program
	File  = "/.ask.json" // its Question
	Log   = "/.hooks"    // where hooks that run inside write
)

// Arguments that make the probe another program.
const (
	Hook = "--hook" // NAME FILE [fail|sleep]
	Call = "--call" // NUMBER ARGUMENT...
	Cat  = "--cat"  // FILE
)

// Question is what the probe is to look at, beyond what it always does.
type Question struct {
	Namespaces map[string]string // what the host's are called, by /proc/PID/ns name: "net:[1]"
	Joined     map[string]string // a label for other namespaces, by what they are called
	Cgroups    Cgroups           // what of the host's to look at
	Read       []string          // files and directories to read
	Write      []string          // files to open for writing, directories to make a file in
	Execute    []string          // files to execute
	Calls      []SystemCall      // system calls to try
}

// Cgroups are the cgroup hierarchies that the host has mounted, as /proc/PID/cgroup names them. Others come and go with whoever mounts
// them, on the whole machine, and are nothing that a runtime makes.
type Cgroups []string

// Has tells whether the hierarchy is among them that has its mount point's last name.
func (c Cgroups) Has(name string) bool {
	return slices.Contains(c, name) || slices.Contains(c, "name="+name)
}

// Mounted returns the lines of a /proc/PID/cgroup that are about these hierarchies: the path by the name.
func (c Cgroups) Mounted(text string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && slices.Contains(c, f[1]) {
			paths[f[1]] = f[2]
		}
	}
	return paths
}

// SystemCall is one system call.
type SystemCall struct {
	Name string
	Nr   int
	Args []uint64
}

// HookRun is the line that a hook writes.
type HookRun struct {
	Name       string
	Namespaces map[string]string
	Cwd        string
	Args, Env  []string
	Root       string            // what the hook finds at /
	State      map[string]string // of its standard input
	Init       string            // whether the state's pid is alive
}
