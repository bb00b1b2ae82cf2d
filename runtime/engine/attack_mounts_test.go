package engine_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// raceTime bounds the tests of races, on slow machines.
const raceTime = 5 * time.Second

// race is another container that shares the volume and exchanges two of its files as fast as it can, until it is stopped.
type race struct {
	stop  func()
	swaps atomic.Int64
	began time.Time
}

// shows tells whether the race is one, in which won containers came to be.
func (r *race) shows(won int) bool { return won > 0 && r.swaps.Load() >= 1000 }

// goesOn tells whether it does after n rounds of most: until it shows something, however slow the machine.
func (r *race) goesOn(n, most, won int) bool {
	t := time.Since(r.began)
	return n < most && t < raceTime || !r.shows(won) && t < 20*raceTime
}

// end stops the race, which must have been one.
func (r *race) end(t *testing.T, won int) {
	t.Helper()
	r.stop()
	t.Logf("%d swaps, %d containers came to be", r.swaps.Load(), won)
	if !r.shows(won) {
		t.Error("the race shows nothing")
	}
}

func swap(t *testing.T, a, b string) *race {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &race{began: time.Now()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("swap: %v", err)
				return
			}
			r.swaps.Add(1)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(r.stop)
	return r
}

// mountPoints lists the mount points that a process sees.
func mountPoints(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		out = append(out, strings.Fields(line)[4])
	}
	return out
}

// TestAttackMountRace: while containers are created that mount something below a shared volume, another container exchanges
// a directory of the volume with a link to the host's files, as often as it can. Nothing may be made (CVE-2024-45310) or mounted
// (CVE-2021-30465) outside of the root file system, and a walk that raced is no error of its own.
func TestAttackMountRace(t *testing.T) {
	testkit.NoLeaks(t)
	outside, volume, files := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(volume, "dir/target"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Taken literally the link leads to outside; below the container's root, to a directory that exists there too.
	if err := os.Symlink(strings.Repeat("../", 40)+outside[1:], filepath.Join(volume, "link")); err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("sleep", "1000")
	spec.Mounts = append(spec.Mounts,
		specs.Mount{Destination: "/vol", Source: volume, Type: "bind", Options: []string{"rbind"}},
		specs.Mount{Destination: "/vol/dir/target", Source: "tmpfs", Type: "tmpfs"},
		specs.Mount{Destination: "/vol/dir/made/deep", Source: files, Type: "bind", Options: []string{"rbind"}},
		specs.Mount{Destination: "/vol/dir/file", Source: "/etc/hostname", Type: "bind", Options: []string{"bind"}})
	bundle := testkit.Bundle(t, spec)
	inside := filepath.Join(bundle, "rootfs", outside)
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	race := swap(t, filepath.Join(volume, "dir"), filepath.Join(volume, "link"))

	// A runtime that walks the path as a string is hit soon: the attack is real.
	naive := filepath.Join(volume, "dir/naive")
	for os.Mkdir(naive, 0o755); !exists(filepath.Join(outside, "naive")); os.Mkdir(naive, 0o755) {
		if os.Remove(naive); time.Since(race.began) > 20*raceTime {
			t.Fatal("the attack does not even hit a naive mkdir")
		}
	}
	if err := os.Remove(filepath.Join(outside, "naive")); err != nil {
		t.Fatal(err)
	}

	e, _ := newEngine(t)
	created := 0
	race.began = time.Now()
	for tries := 0; race.goesOn(tries, 50, created); tries++ {
		ctx := timeout(t)
		spec.Linux.CgroupsPath = "/" + newID()
		testkit.WriteConfig(t, bundle, spec)
		c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: bundle})
		if err != nil {
			// What a directory that is gone meanwhile is worth.
			for _, ok := range []string{"no such file", "not a directory", "file exists", "is a directory"} {
				if strings.Contains(err.Error(), ok) {
					err = nil
					break
				}
			}
			if err != nil {
				t.Errorf("create: %v", err)
			}
			continue
		}
		created++
		if _, err := os.Stat("/proc/" + itoa(c.Pid()) + "/root/bin/busybox"); err != nil {
			t.Errorf("the container's root is not its own: %v", err)
		}
		for _, p := range mountPoints(t, c.Pid()) {
			// The link leads to a directory of the image.
			if !slices.ContainsFunc([]string{"/proc", "/dev", "/sys", "/run", "/vol", outside}, func(dir string) bool {
				return p == "/" || p == dir || strings.HasPrefix(p, dir+"/")
			}) {
				t.Errorf("mounted on %s", p)
			}
		}
		if _, err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
	}
	race.end(t, created)
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made on the host: %v", left)
	}
	for _, p := range mountPoints(t, os.Getpid()) { // elsewhere others may be at work
		if strings.HasPrefix(p, outside) || strings.HasPrefix(p, volume) {
			t.Errorf("mounted on the host: %s", p)
		}
	}
}

// tree makes links and files in a root file system: a name that ends with " -> x" is a link, with "/" a directory, with "|" a
// FIFO.
func tree(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, n := range names {
		name, target, link := strings.Cut(n, " -> ")
		p := filepath.Join(root, name)
		os.RemoveAll(strings.TrimSuffix(p, "|"))
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "|"):
			err = unix.Mkfifo(strings.TrimSuffix(p, "|"), 0o644)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte("image\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tryRun creates and runs a container; the error is that of create or start.
func tryRun(t *testing.T, e *engine.Engine, spec *specs.Spec, bundle string) (out string, err error) {
	t.Helper()
	ctx := timeout(t)
	spec.Linux.CgroupsPath = "/" + newID()
	testkit.WriteConfig(t, bundle, spec)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: bundle, Stdio: engine.Stdio{Out: w, Err: w}, Terminal: spec.Process.Terminal})
	w.Close()
	if err != nil {
		return "", err
	}
	defer func() {
		c.Wait(ctx, "")
		if _, e := c.Delete(ctx); e != nil {
			t.Error(e)
		}
	}()
	console := c.TakeConsole()
	if err := c.Start(ctx); err != nil {
		return "", err
	}
	if console != nil {
		defer console.Close()
		text, _ := io.ReadAll(console)
		return strings.TrimSpace(strings.ReplaceAll(string(text), "\r", "")), nil
	}
	text, err := io.ReadAll(r)
	return strings.TrimSpace(string(text)), err
}

// without drops the mounts on some destinations.
func without(spec *specs.Spec, dests ...string) {
	var kept []specs.Mount
	for _, m := range spec.Mounts {
		drop := false
		for _, d := range dests {
			drop = drop || m.Destination == d || strings.HasPrefix(m.Destination, d+"/")
		}
		if !drop {
			kept = append(kept, m)
		}
	}
	spec.Mounts = kept
}

// TestAttackImageLinks: the image has links where the runtime makes or mounts something. Whatever comes of it stays in the
// image: the directory outside, on the host, that the links name stays empty.
func TestAttackImageLinks(t *testing.T) {
	outside := t.TempDir()
	for _, tc := range []struct {
		name   string
		image  []string // OUT stands for the directory on the host
		change func(*specs.Spec)
		script string
		want   string // output, or
		err    string // part of the error
	}{
		// CVE-2026-41579, CVE-2026-47766: devices and links would be made on the host.
		{name: "dev is a link to the host", image: []string{"dev -> OUT"}, change: func(s *specs.Spec) { without(s, "/dev") },
			err: "no such file or directory"},
		{name: "dev is a link to the host, whose directory the image has too", image: []string{"dev -> OUT", "OUT/"},
			change: func(s *specs.Spec) { without(s, "/dev") }, script: "test -c OUT/null && readlink OUT/fd", want: "/proc/self/fd"},
		{name: "dev is a link upwards", image: []string{"dev -> ../../../../../../../../OUT", "OUT/"},
			change: func(s *specs.Spec) { without(s, "/dev/pts", "/dev/shm", "/dev/mqueue") }, script: "test -c OUT/null && echo here", want: "here"},
		{name: "dev is a link to the host, without a mount namespace", image: []string{"dev -> OUT"}, change: sharedMounts, err: "no such file or directory"},
		{name: "dev is a link upwards, without a mount namespace", image: []string{"dev -> ../../../../../../../../OUT", "OUT/"}, change: sharedMounts,
			script: "test -c OUT/null && echo here", want: "here"},
		{name: "dev is a link to proc", image: []string{"dev -> proc"}, err: "operation not permitted"},
		// CVE-2019-18837: mount points are looked for in the image.
		{name: "mount point below a link", image: []string{"a -> OUT", "OUT/"}, script: "ls OUT",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a/x", Type: "tmpfs", Source: "tmpfs"})
			}, want: "x"},
		{name: "file mounted on a dangling link", image: []string{"etc/hosts -> OUT/hosts", "OUT/"}, script: "ls OUT",
			change: func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
			}, want: "hosts"},
		// CVE-2025-52565: the terminal would cover, and be taken for, another file.
		{name: "console is a link into proc", image: []string{"dev/console -> /proc/sysrq-trigger"},
			change: func(s *specs.Spec) { without(s, "/dev"); devpts(s); s.Process.Terminal = true }, err: "too many levels of symbolic links"},
		{name: "console is a link to the host", image: []string{"dev/console -> OUT/console", "OUT/"},
			change: func(s *specs.Spec) { without(s, "/dev"); devpts(s); s.Process.Terminal = true }, err: "too many levels of symbolic links"},
		{name: "console is a file of the image", image: []string{"dev/console"}, script: "tty; test -c /dev/console && echo covered",
			change: func(s *specs.Spec) { without(s, "/dev"); devpts(s); s.Process.Terminal = true }, want: "/dev/pts/0\ncovered"},
		{name: "pts is a link", image: []string{"dev/pts -> ../tmp/pts", "tmp/pts/"}, script: "tty; ls /tmp/pts",
			change: func(s *specs.Spec) { without(s, "/dev"); devpts(s); s.Process.Terminal = true }, want: "/tmp/pts/0\n0     ptmx"},
		{name: "pts are links", image: []string{"dev/pts/ptmx -> OUT/ptmx", "dev/pts/0 -> OUT/0"}, script: "tty",
			change: func(s *specs.Spec) { without(s, "/dev"); devpts(s); s.Process.Terminal = true }, want: "/dev/pts/0"},
		{name: "no devpts but a fake one", image: []string{"dev/pts/ptmx"},
			change: func(s *specs.Spec) { without(s, "/dev"); s.Process.Terminal = true }, err: "process.terminal"},
		{name: "ptmx is a directory", image: []string{"dev/ptmx/"}, change: func(s *specs.Spec) { without(s, "/dev") }, err: "is a directory"},
		{name: "fd is a link to the host", image: []string{"dev/fd -> OUT", "dev/stdout -> OUT/out", "OUT/"}, script: "readlink /dev/fd",
			change: func(s *specs.Spec) { without(s, "/dev") }, want: "OUT"},
		// CVE-2025-31133: masks would be bind mounts of what the image calls /dev/null.
		{name: "null is a link", image: []string{"dev/null -> /proc/sys/kernel/core_pattern"}, change: func(s *specs.Spec) { without(s, "/dev") }, err: "file exists"},
		{name: "null is a file", image: []string{"dev/null"}, change: func(s *specs.Spec) { without(s, "/dev") }, err: "file exists"},
		{name: "null is a link in a user namespace", image: []string{"dev/null -> /etc/passwd"},
			change: func(s *specs.Spec) { without(s, "/dev"); identityUserNS(s) }, err: "too many levels of symbolic links"},
		{name: "null is another device", image: []string{"dev/"}, change: func(s *specs.Spec) {
			without(s, "/dev")
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 5}}
		}, script: "stat -c '%t:%T' /proc/keys", want: "1:3"},
		// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: /proc would be something else.
		{name: "proc is a link", image: []string{"proc -> tmp"}, err: "too many levels of symbolic links"},
		{name: "proc is a link to the host", image: []string{"proc -> OUT"}, err: "too many levels of symbolic links"},
		{name: "sys is a link", image: []string{"sys -> tmp"}, err: "too many levels of symbolic links"},
		{name: "volume on proc", change: func(s *specs.Spec) { bind(s, "/proc", "rbind") }, err: "would hide a part of /proc"},
		{name: "volume on proc, another spelling", change: func(s *specs.Spec) { bind(s, "//tmp/../proc/.", "rbind") }, err: "would hide a part of /proc"},
		{name: "volume in proc", change: func(s *specs.Spec) { bind(s, "/proc/self/attr", "rbind") }, err: "would hide a part of /proc"},
		{name: "volume in proc through a link", image: []string{"evil -> proc/self"}, change: func(s *specs.Spec) { bind(s, "/evil/attr", "rbind") },
			err: "operation not permitted"},
		{name: "tmpfs in proc through a link", image: []string{"evil -> proc/self"}, change: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/evil/attr", Type: "tmpfs", Source: "tmpfs"})
		}, err: "operation not permitted"},
		{name: "tmpfs on proc", change: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc", Type: "tmpfs", Source: "tmpfs"})
		}, err: "would hide a part of /proc"},
		{name: "file in proc that may be covered", change: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/uptime", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
		}, script: "echo ok", want: "ok"},
		// A home directory is the image's affair, as long as it is text.
		{name: "passwd is a link to the host", image: []string{"etc/passwd -> /proc/self/environ"}, script: "echo $HOME", want: "/"},
		{name: "passwd never ends", image: []string{"etc/passwd|"}, script: "echo $HOME", want: "/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			place := func(s string) string { return strings.ReplaceAll(s, "OUT", outside) }
			script := tc.script
			if script == "" {
				script = "echo it runs"
			}
			spec := testkit.Spec("sh", "-c", place(script))
			without(spec, "/run") // the directory outside may be below it
			if tc.change != nil {
				tc.change(spec)
			}
			bundle := testkit.Bundle(t, spec)
			for _, n := range tc.image {
				name, target, link := strings.Cut(n, " -> ")
				n = place(name)
				if link {
					n += " -> " + strings.ReplaceAll(strings.ReplaceAll(target, "/OUT", outside), "OUT", outside)
				}
				tree(t, filepath.Join(bundle, "rootfs"), n)
			}
			e, _ := newEngine(t)
			out, err := tryRun(t, e, spec, bundle)
			switch {
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %q, %v; want an error with %q", out, err, tc.err)
			case tc.err == "" && (err != nil || out != place(tc.want)):
				t.Errorf("got %q, %v; want %q", out, err, place(tc.want))
			}
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Fatalf("made on the host: %v", left)
			}
		})
	}
}

// sharedMounts takes the mount namespace away, and what needs one.
func sharedMounts(s *specs.Spec) {
	s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
}

func devpts(s *specs.Spec) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}})
}

func bind(s *specs.Spec, dest, how string) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: "/etc", Options: []string{how}})
}

// identityUserNS is a user namespace that may write to the bundle.
func identityUserNS(s *specs.Spec) {
	inUserNS(s)
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

// TestAttackMaskRace: the image's /dev, which another container shares, has its null exchanged with a link to a file of the
// host's kernel while masks are made of it (CVE-2025-31133). What is masked is always behind the host's /dev/null.
func TestAttackMaskRace(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("stat", "-c", "%t:%T", "/proc/keys", "/proc/timer_list")
	without(spec, "/dev")
	bundle := testkit.Bundle(t, spec)
	dev := filepath.Join(bundle, "rootfs/dev")
	if err := unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	tree(t, dev, "link -> /proc/sys/kernel/core_pattern")
	race := swap(t, filepath.Join(dev, "null"), filepath.Join(dev, "link"))
	e, _ := newEngine(t)
	ran := 0
	for n := 0; race.goesOn(n, 25, ran); n++ {
		out, err := tryRun(t, e, spec, bundle)
		switch {
		case err == nil && out == "1:3\n1:3":
			ran++
		case err == nil:
			t.Errorf("masked by %q", out)
		case !strings.Contains(err.Error(), "/dev/null"): // caught in the act
			t.Error(err)
		}
	}
	race.end(t, ran)
}

// TestAttackSysctlRace: the image's /proc is exchanged with a link to a directory that has files of the names of sysctls, while
// the runtime mounts proc and sets sysctls (CVE-2025-52881, CVE-2019-19921). They are set in the kernel, or create fails; the files
// stay as they are.
func TestAttackSysctlRace(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("cat", "/proc/sys/net/ipv4/ip_forward")
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	bundle := testkit.Bundle(t, spec)
	root := filepath.Join(bundle, "rootfs")
	tree(t, root, "fake/sys/net/ipv4/ip_forward", "fake/self/oom_score_adj", "fake/thread-self/attr/exec", "link -> fake")
	race := swap(t, filepath.Join(root, "proc"), filepath.Join(root, "link"))
	e, _ := newEngine(t)
	ran := 0
	for n := 0; race.goesOn(n, 25, ran); n++ {
		out, err := tryRun(t, e, spec, bundle)
		switch {
		case err == nil && (out == "1" || out == "image"):
			ran++ // the mount follows its directory; by the time of the cat the name may be the link again
		case err == nil:
			t.Errorf("the sysctl is %q", out)
		case !strings.Contains(err.Error(), "proc"):
			t.Error(err)
		}
	}
	race.end(t, ran)
	for _, f := range []string{"sys/net/ipv4/ip_forward", "self/oom_score_adj", "thread-self/attr/exec"} {
		if b, _ := os.ReadFile(filepath.Join(root, "fake", f)); string(b) != "image\n" {
			t.Errorf("%s was written to: %q", f, b)
		}
	}
}
