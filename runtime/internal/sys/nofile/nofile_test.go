package nofile_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys/nofile"
)

func TestMain(m *testing.M) {
	if os.Getenv("NOFILE_CHILD") != "" {
		var now unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_NOFILE, &now)
		fmt.Print(nofile.Soft, " ", nofile.Hard, " ", now.Cur)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestOriginal starts a process with a low soft limit: Go raises it, the package has seen the original.
func TestOriginal(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "ulimit -S -n 777; ulimit -H -n 1999; exec "+os.Args[0])
	cmd.Env = append(os.Environ(), "NOFILE_CHILD=1")
	out, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(out), "777 1999 ") || strings.HasSuffix(string(out), " 777") {
		t.Fatalf("got %q, %v; want the original 777 1999, and another as Go left it", out, err)
	}
}
