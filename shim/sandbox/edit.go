package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

// edit makes the config of a container that of one of the pod.
func (p *pod) edit(spec *specs.Spec) error {
	st := p.status()
	if !st.ready {
		return refuse(engine.FailedPrecondition, "sandbox %s is not ready", p.id)
	}
	if spec.Linux != nil {
		if err := p.editNamespaces(spec.Linux.Namespaces, st.pid); err != nil {
			return err
		}
	}
	p.editMounts(spec)
	return nil
}

// editNamespaces replaces the paths of namespaces that the pod has, but not its thread: no thread may enter a user namespace, and all
// of a process are in one pid namespace, which here is the host's.
func (p *pod) editNamespaces(list []specs.LinuxNamespace, pid int) error {
	if pid != p.tid {
		return nil // a process has them all
	}
	for i := range list {
		n := &list[i]
		if n.Path != fmt.Sprintf("/proc/%d/ns/%s", pid, procName(n.Type)) {
			continue
		}
		switch {
		case n.Type == specs.UserNamespace && p.user != "":
			n.Path = p.user
		case n.Type == specs.PIDNamespace && p.namespaces().Pid != api.ModeNode:
			// A container that shares the pod's process ids, though the pod was not told that any would.
			first, err := p.first.start(context.Background(), p)
			if err != nil {
				return err
			}
			n.Path = fmt.Sprintf("/proc/%d/ns/pid", first)
		}
	}
	return nil
}

// procName is the name of a namespace's file in /proc/PID/ns.
func procName(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	}
	return string(t)
}

// editMounts adds the files of the pod where the config mounts nothing of its own.
func (p *pod) editMounts(spec *specs.Spec) {
	mode := "rw"
	if spec.Root != nil && spec.Root.Readonly {
		mode = "ro"
	}
	for _, f := range etcFiles {
		source := p.files.path(f.name)
		if _, err := os.Lstat(source); err != nil || mountAt(spec.Mounts, f.destination) >= 0 {
			continue
		}
		spec.Mounts = insert(spec.Mounts, bind(source, f.destination, mode))
	}
	if p.namespaces().IPC == api.ModeNode {
		return // CRI mounts the host's
	}
	shm := bind(p.files.shm, devShm, "rw")
	switch i := mountAt(spec.Mounts, devShm); {
	case i < 0:
		spec.Mounts = insert(spec.Mounts, shm)
	case spec.Mounts[i].Type == "tmpfs" && spec.Mounts[i].Source == "shm": // containerd's default, a container's own
		spec.Mounts[i] = shm
	}
}

func bind(source, destination, mode string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: destination, Options: []string{"rbind", "rprivate", mode}}
}

// mountAt finds the mount at a place, -1 if there is none.
func mountAt(mounts []specs.Mount, destination string) int {
	return slices.IndexFunc(mounts, func(m specs.Mount) bool { return filepath.Clean(m.Destination) == destination })
}

// insert adds a mount before those below it, which it would cover.
func insert(mounts []specs.Mount, m specs.Mount) []specs.Mount {
	below := slices.IndexFunc(mounts, func(other specs.Mount) bool {
		return strings.HasPrefix(filepath.Clean(other.Destination), m.Destination+"/")
	})
	if below < 0 {
		below = len(mounts)
	}
	return slices.Insert(mounts, below, m)
}
