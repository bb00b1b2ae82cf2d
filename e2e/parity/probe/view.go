package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

func (r report) namespaces(q *ask.Question) {
	for name, host := range q.Namespaces {
		link, err := os.Readlink("/proc/self/ns/" + name)
		label, known := q.Joined[link]
		switch {
		case err != nil:
			r["ns "+name] = failure(err)
		case link == host:
			r["ns "+name] = "host"
		case known:
			r["ns "+name] = label
		default:
			r["ns "+name] = "new"
		}
	}
}

func (r report) cgroups(q *ask.Question) {
	for name, path := range q.Cgroups.Mounted(read("/proc/self/cgroup")) {
		r["cgroup "+name] = path
	}
}

// mounts takes mountinfo apart, without the numbers that differ at every mount.
func (r report) mounts(q *ask.Question) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r["mounts"] = failure(err)
		return
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.SplitN(after, " ", 3)
		if len(f) < 6 || len(g) < 3 {
			continue
		}
		point := f[4]
		if name, found := strings.CutPrefix(point, "/sys/fs/cgroup/"); found && g[0] == "cgroup" && !q.Cgroups.Has(name) {
			continue
		}
		if seen[point]++; seen[point] > 1 {
			point += fmt.Sprintf("#%d", seen[point])
		}
		var propagation []string
		for _, tag := range f[6:] {
			kind, _, _ := strings.Cut(tag, ":")
			if kind != "propagate_from" { // tells whether the host's peer is in sight
				propagation = append(propagation, kind)
			}
		}
		at := "mount " + point + " "
		r[at+"root"], r[at+"options"], r[at+"propagation"] = f[3], sorted(f[5]), strings.Join(propagation, " ")
		r[at+"type"], r[at+"source"], r[at+"super"] = g[0], g[1], sorted(g[2])
	}
}

func sorted(options string) string {
	list := strings.Split(options, ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}

func (r report) devices(*ask.Question) { r.walk("device ", "/dev", 4, nil) }

func (r report) files(*ask.Question) {
	r.walk("file ", "/", 4, []string{"/proc", "/other-proc", "/sys", "/dev", ask.File, ask.Log, "/bin"})
}

// walk describes what is below a directory.
func (r report) walk(prefix, root string, depth int, skip []string) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			r[prefix+path] = failure(err)
			return nil
		}
		if slices.Contains(skip, path) || strings.Count(path, "/") > depth {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		r[prefix+path] = describe(path)
		return nil
	})
}

func describe(path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return failure(err)
	}
	s := fmt.Sprintf("%s %04o %d:%d", kind(st.Mode), st.Mode&0o7777, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" %d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		s = "link " + value(target, err)
	}
	return s
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFCHR:
		return "character"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFLNK:
		return "link"
	}
	return "file"
}

// paths tries what the question names.
func (r report) paths(q *ask.Question) {
	for _, path := range q.Read {
		entries, err := os.ReadDir(path)
		if err == nil {
			names := []string{}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			r["read "+path] = fmt.Sprint(names)
			continue
		}
		text := read(path)
		if len(text) > 120 {
			text = text[:120]
		}
		r["read "+path] = text
	}
	for _, path := range q.Write {
		st, err := os.Stat(path)
		switch {
		case err != nil:
			r["write "+path] = failure(err)
		case st.IsDir():
			name := filepath.Join(path, ".written")
			fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if r["write "+path] = value("yes", err); err == nil {
				unix.Close(fd)
				_ = unix.Unlink(name)
			}
		default:
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if r["write "+path] = value("yes", err); err == nil {
				unix.Close(fd)
			}
		}
	}
	for _, path := range q.Execute {
		err := exec.Command(path).Run()
		r["execute "+path] = value("yes", err)
	}
}

// network lists the interfaces of a network namespace that is not the host's.
func (r report) network(q *ask.Question) {
	if r["ns net"] == "host" {
		return
	}
	list, err := net.Interfaces()
	if err != nil {
		r["network"] = failure(err)
		return
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		var names []string
		for _, a := range addrs {
			names = append(names, a.String())
		}
		slices.Sort(names)
		r["network "+i.Name] = value(fmt.Sprintf("%s mtu %d %v", i.Flags, i.MTU, names), err)
	}
}

func (r report) terminal(*ask.Question) {
	for fd := range 3 {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			r[fmt.Sprintf("terminal %d", fd)] = failure(err)
			continue
		}
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		r[fmt.Sprintf("terminal %d", fd)] = fmt.Sprintf("%s in %#x out %#x control %#x local %#x", name, t.Iflag, t.Oflag, t.Cflag, t.Lflag)
		if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			r["terminal size"] = fmt.Sprintf("%d columns, %d rows", size.Col, size.Row)
		}
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	r["controlling terminal"] = value("yes", err)
	if err == nil {
		unix.Close(fd)
	}
}
