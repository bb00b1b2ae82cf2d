package containerdtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/processes"
)

// supervisorName is argv[0] of the supervisor; Main looks for it.
const supervisorName = "containerdtest-supervisor"

// Main turns the process into a supervisor when a Daemon started it as one, and returns otherwise.
//
// Preconditions: call it first in main or TestMain of every program that starts a Daemon, which starts itself again as the
// supervisor.
//
// The supervisor stands between the program and containerd because shims outlive the containerd that started them: it is
// their subreaper, so every shim, container and helper that containerd's children leave behind becomes its child. It
// reaps them as an init would, knows exactly which are left on a machine that others use at the same time, and ends them all when
// the program goes away, also when that was a panic or a kill.
func Main() {
	if os.Args[0] != supervisorName {
		return
	}
	if err := supervise(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, supervisorName+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// request is one line from the program to its supervisor, reply the line that answers it.
type request struct {
	Op  string   // "start", "signal", "wait" or "left"
	Cmd []string // start: path and arguments
	Env []string
	Log string // start: stdout and stderr are appended to this file
	// NoFile, when set, is the soft RLIMIT_NOFILE that the program starts with.
	NoFile uint64
	Signal int // signal: to the started program
}

type reply struct {
	Pid   int      // start
	Left  []string // left: what still runs, one "pid command line" each
	Error string
}

// supervisor is one program and the processes that it leaves.
type supervisor struct {
	mu     sync.Mutex
	pid    int // of the program; 0 when none runs
	exited *sync.Cond
}

func supervise(in io.Reader, out io.Writer) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	s := &supervisor{}
	s.exited = sync.NewCond(&s.mu)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	signal.Ignore(unix.SIGINT) // Ctrl-C reaches the program, whose end we see as the end of our input
	go s.reap(signals)
	defer processes.End(os.Getpid())

	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if err := requests.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if err := replies.Encode(s.answer(q)); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
	}
}

func (s *supervisor) answer(q request) (r reply) {
	var err error
	switch q.Op {
	case "start":
		r.Pid, err = s.start(q)
	case "signal":
		err = s.signal(syscall.Signal(q.Signal))
	case "wait":
		s.wait()
	case "left":
		r.Left = s.left(30 * time.Second)
	default:
		err = fmt.Errorf("unknown request %q", q.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (s *supervisor) start(q request) (int, error) {
	log, err := os.OpenFile(q.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command(q.Cmd[0], q.Cmd[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = q.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if q.NoFile != 0 {
		// Children of this process get what is set here: package syscall restores only a limit that it raised itself.
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return 0, fmt.Errorf("read RLIMIT_NOFILE: %w", err)
		}
		l.Cur = q.NoFile
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Cur, Max: l.Max}); err != nil {
			return 0, fmt.Errorf("set RLIMIT_NOFILE to %d: %w", q.NoFile, err)
		}
	}
	// The lock keeps the reaper from seeing the exit before the pid is known.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		return 0, fmt.Errorf("start %s: pid %d still runs", q.Cmd[0], s.pid)
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	s.pid = cmd.Process.Pid
	return s.pid, cmd.Process.Release() // the reaper waits for it
}

func (s *supervisor) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	return unix.Kill(s.pid, sig)
}

// wait returns when the program has ended.
func (s *supervisor) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pid != 0 {
		s.exited.Wait()
	}
}

// reap collects every child that ends: the program and the orphans that the kernel gave to us.
func (s *supervisor) reap(signals <-chan os.Signal) {
	for range signals {
		for {
			s.mu.Lock()
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid == s.pid && pid > 0 {
				s.pid = 0
			}
			s.exited.Broadcast()
			s.mu.Unlock()
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// left returns the processes that the program left, the program itself excepted, after giving them the time to end that
// they need. It wakes at every exit of a child.
func (s *supervisor) left(patience time.Duration) []string {
	deadline := time.Now().Add(patience)
	alarm := time.AfterFunc(patience, func() { s.exited.Broadcast() })
	defer alarm.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		left := processes.Below(os.Getpid(), s.pid)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		s.exited.Wait()
	}
}

// remote is the program's end of its supervisor.
type remote struct {
	cmd     *exec.Cmd
	mu      sync.Mutex // one request at a time
	in      io.WriteCloser
	replies *json.Decoder
}

func startSupervisor() (*remote, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{supervisorName}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	return &remote{cmd: cmd, in: in, replies: json.NewDecoder(bufio.NewReader(out))}, nil
}

func (r *remote) ask(q request) (reply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var a reply
	if err := json.NewEncoder(r.in).Encode(q); err != nil {
		return a, fmt.Errorf("ask the supervisor to %s: %w", q.Op, err)
	}
	if err := r.replies.Decode(&a); err != nil {
		return a, fmt.Errorf("hear from the supervisor about %s: %w (does the program call containerdtest.Main first?)", q.Op, err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// close ends the supervisor and with it every process that is left.
func (r *remote) close() error {
	r.in.Close()
	return r.cmd.Wait()
}
