// Package restart tests what becomes of containers when containerd dies, is started again, upgraded and downgraded, and when the shim in
// place of another one finds its bundles.
//
// The tests use containerd's client library, whose streams can be left and taken up again, as containerd's CRI plugin does.
package restart

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

const runcRuntime = "io.containerd.runc.v2"

var (
	runtimeFlag = flag.String("runtime", "io.containerd.gosuda.v2", "containerd runtime to test")
	binFlag     = flag.String("bin", "", "directory of gosuda's shim (default: where make build leaves it)")
	awayFlag    = flag.Duration("away", 3*time.Second, "how long containerd stays away when it was killed")
)

var tree containerdtest.Tree

func TestMain(m *testing.M) {
	containerdtest.Main()
	flag.Parse()
	var err error
	if tree, err = containerdtest.FindTree(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// world is a private containerd, and a client of it.
type world struct {
	*containerdtest.Daemon
	dir    string // files of the test
	rootfs string // shared by all containers
	client *client.Client
	ctx    context.Context
}

var worlds atomic.Int64

// newWorld starts a containerd: containerd, containerd-1.6 or containerd-1.7. At the end of the test nothing of it may be left.
func newWorld(t *testing.T, version string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "gr-") // short: sockets are made in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &world{dir: dir, rootfs: filepath.Join(dir, "rootfs")}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o711), os.Mkdir(w.rootfs, 0o755), containerdtest.WriteRootfs(w.rootfs)); err != nil {
		t.Fatal(err)
	}
	c := containerdtest.Config{Dir: filepath.Join(dir, "d"), Namespace: fmt.Sprintf("gosuda-restart-%d-%d", os.Getpid(), worlds.Add(1))}
	use(t, &c, version)
	if w.Daemon, err = containerdtest.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.end(t) })
	w.ctx = namespaces.WithNamespace(context.Background(), c.Namespace)
	w.connect(t)
	return w
}

// use makes c one of a version of containerd.
func use(t *testing.T, c *containerdtest.Config, version string) {
	t.Helper()
	bin, err := tree.Peer(version)
	if err != nil {
		t.Fatal(err)
	}
	runc, err := tree.Peer("runc")
	if err != nil {
		t.Fatal(err)
	}
	c.Bin = bin
	c.Path = []string{cmp.Or(*binFlag, tree.Bin()), bin, runc}
	c.ConfigVersion = 3
	if version != "containerd" {
		c.ConfigVersion = 2
	}
}

// end stops containerd and fails the test when it or its containers have left something.
func (w *world) end(t *testing.T) {
	if w.client != nil {
		w.client.Close()
	}
	left, err := w.Close()
	if err != nil {
		t.Errorf("stop containerd: %v", err)
	}
	for _, l := range left {
		if *runtimeFlag != runcRuntime {
			t.Errorf("left behind: %s", l)
		}
	}
	if t.Failed() {
		lines := strings.SplitAfter(w.Log(), "\n")
		t.Logf("containerd's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-60):], ""))
	}
}

// connect makes a new client. The one before belonged to a containerd that is no more.
func (w *world) connect(t *testing.T) {
	t.Helper()
	if w.client != nil {
		w.client.Close()
	}
	var err error
	if w.client, err = client.New(w.Address(), client.WithTimeout(30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// die kills containerd with SIGKILL.
func (w *world) die(t *testing.T) {
	t.Helper()
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
}

// rise starts containerd again, perhaps another version of it, and connects to it.
func (w *world) rise(t *testing.T, version string) {
	t.Helper()
	if err := w.Reconfigure(func(c *containerdtest.Config) { use(t, c, version) }); err != nil {
		t.Fatal(err)
	}
	if err := w.Launch(); err != nil {
		t.Fatal(err)
	}
	w.connect(t)
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 30 s", what)
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
