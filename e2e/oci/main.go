// Command oci runs the validation programs of the OCI's runtime-tools against gosudacon, and against runc and crun beside it.
//
// Each program calls a runtime's command line and prints TAP. A program that is not clean for gosudacon fails the run unless
// excuses.go names a reason for each of its complaints, and that reason holds on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/ociruntime"
)

// runtimetest is the program that the others put into their containers.
const runtimetest = "runtimetest"

func main() {
	var s suite
	names := flag.String("runtimes", "gosudacon,runc", "runtimes to run, separated by commas: gosudacon, runc, crun")
	only := flag.String("run", "", "run the programs whose name matches this regular expression")
	flag.IntVar(&s.parallel, "parallel", 2, "programs at a time; those of cgroups share a path and take turns")
	flag.DurationVar(&s.timeout, "timeout", 3*time.Minute, "time for one program")
	flag.BoolVar(&s.verbose, "v", false, "print every complaint of every runtime")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := s.run(ctx, strings.Split(*names, ","), *only); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// suite is one run of the programs.
type suite struct {
	parallel int
	timeout  time.Duration
	verbose  bool

	tools    string // the directory of the programs
	dir      string // of this run
	runtimes []ociruntime.Runtime
	cgroups  sync.Mutex
	done     atomic.Int64
}

func (s *suite) run(ctx context.Context, names []string, only string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes containers")
	}
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	if s.tools, err = tree.Peer("runtime-tools"); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "gosuda-oci"); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // the users of user namespaces walk through it
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	for _, name := range names {
		r, err := ociruntime.Find(tree, name, s.dir)
		if err != nil {
			return err
		}
		s.runtimes = append(s.runtimes, r)
	}
	programs, err := s.programs(only)
	if err != nil {
		return err
	}
	had := parents()
	defer func() { err = errors.Join(err, removeParents(had)) }()
	rows := make([]row, len(programs))
	gate := make(chan struct{}, s.parallel)
	var wait sync.WaitGroup
	for i, program := range programs {
		gate <- struct{}{}
		wait.Go(func() {
			defer func() { <-gate }()
			rows[i] = s.program(ctx, program)
			progress("%d of %d: %s", s.done.Add(1), len(programs), program)
		})
	}
	wait.Wait()
	progress("")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.report(rows)
}

// programs lists them by their names.
func (s *suite) programs(only string) ([]string, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.tools)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); name != runtimetest && !strings.Contains(name, ".") && match.MatchString(name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no program in %s matches %q", s.tools, only)
	}
	return out, nil
}

// program runs one program for each runtime in turn.
func (s *suite) program(ctx context.Context, name string) row {
	// They put their containers into the same cgroups, and look into the hierarchies' roots.
	if strings.Contains(name, "cgroups") || strings.HasPrefix(name, "delete_") {
		s.cgroups.Lock()
		defer s.cgroups.Unlock()
	}
	out := row{program: name, verdicts: map[string]verdict{}}
	for _, r := range s.runtimes {
		if ctx.Err() == nil {
			out.verdicts[r.Name] = s.one(ctx, name, r)
		}
	}
	return out
}

// before is what runs before each call of a runtime, for programs that are faster than what they look at.
var before = map[string]string{
	// It signals a shell as soon as that is started; a signal that comes before the shell's trap is lost, as the shell is the init of its
	// pid namespace (pid_namespaces(7)). So wait until it catches one of SIGUSR1, SIGUSR2 and SIGTERM.
	"killsig": `if [ "$1" = kill ]; then
	pid=$("$0" state "$2" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
	for i in $(seq 500); do
		caught=$(sed -n 's/^SigCgt:[[:space:]]*/0x/p' "/proc/$pid/status")
		[ $((caught & 0x4a00)) -eq 0 ] || break
		sleep 0.02
	done
fi`,
}

// one runs one program for one runtime, which has a root of its own for it, in a mount namespace of its own: a container without a
// mount namespace leaves its mounts in that of its caller, and in the bundle that is removed afterwards.
func (s *suite) one(ctx context.Context, name string, r ociruntime.Runtime) verdict {
	dir := filepath.Join(s.dir, name+"-"+r.Name)
	r.Root = filepath.Join(dir, "root")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(r.Root, 0o711), os.Mkdir(filepath.Join(dir, "tmp"), 0o755)); err != nil {
		return broken(err)
	}
	wrapper, err := r.Wrapper(dir, before[name])
	if err != nil {
		return broken(err)
	}
	var v verdict
	if err := ociruntime.InMountNamespace(func() {
		v = execute(ctx, s.timeout, s.tools, filepath.Join(s.tools, name), "RUNTIME="+wrapper, "TMPDIR="+filepath.Join(dir, "tmp"))
		// Not a complaint of the program, but nothing that may happen: what a runtime made it can take away.
		if err := r.Clean(ctx); err != nil {
			v.complaints = append(v.complaints, err.Error())
		}
	}); err != nil {
		return broken(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		v.complaints = append(v.complaints, fmt.Sprintf("remove the bundle: %v", err))
	}
	return v
}

// progress shows, on a terminal's one line, how far we are.
func progress(format string, args ...any) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	}
}
