package child_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/child"
)

func TestMain(m *testing.M) {
	if os.Getenv("CHILD_REAPER") != "" {
		reaper()
	}
	os.Exit(m.Run())
}

// reaper is a process of its own: what it does concerns a whole process.
func reaper() {
	var t child.Table
	if err := t.Reap(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 20 {
		// Two orphans, one that ends before and one that ends after our own child.
		cmd := exec.Command("/bin/sh", "-c", "sleep 0.01 & sleep 0 & echo $$; exit 7")
		out, _ := cmd.StdoutPipe()
		wait, err := t.Start(cmd)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		buf := make([]byte, 64)
		out.Read(buf)
		if err := wait(); err == nil || cmd.ProcessState.ExitCode() != 7 {
			fmt.Printf("round %d: the status of our own child: %v\n", i, err)
			os.Exit(1)
		}
	}
	// Only orphans are left, and the sweeper takes them as they end: the kernel says so when none remains.
	for {
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil); err == unix.ECHILD {
			fmt.Println("done")
			os.Exit(0)
		}
	}
}

func TestReap(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHILD_REAPER=1")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestProcess waits by pidfd for both kinds of ends.
func TestProcess(t *testing.T) {
	var table child.Table
	for script, want := range map[string]int{"exit 3": 3, "kill -9 $$": 137} {
		var pidfd int
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.SysProcAttr = &unix.SysProcAttr{PidFD: &pidfd}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := table.Adopt(cmd.Process.Pid, pidfd)
		if err != nil {
			t.Fatal(err)
		}
		status, err := p.Wait()
		if err != nil || child.ExitCode(status) != want {
			t.Errorf("%s: %d, %v", script, child.ExitCode(status), err)
		}
		if err := p.Signal(unix.SIGTERM); err != unix.ESRCH {
			t.Errorf("signal to a dead process: %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		cmd.Process.Release()
	}
}
