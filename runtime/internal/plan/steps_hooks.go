package plan

import "strings"

// RunHooks runs the hooks of one point in config.json.
type RunHooks struct {
	atGate
	Point string
	Paths []string
	// Dumpable: the caller may enter the child's namespaces only while it is dumpable.
	Dumpable bool
}

func (h RunHooks) String() string {
	s := "run " + strings.Join(h.Paths, ", then ")
	switch h.Point {
	case "createContainer":
		return s + " in the container's namespaces, with the host's files"
	case "startContainer":
		return s + " in the container, before the start gate opens"
	}
	return s + " in the runtime's namespaces"
}

// RuntimeRoot goes from the container's root file system, where joining its mount namespace leads, to the host's, as that
// namespace has it. The working directory is Dir, or / where the user may not go there.
type RuntimeRoot struct {
	inChild
	Dir string // absolute
}

func (r RuntimeRoot) String() string { return "see the host's files, in " + r.Dir }
