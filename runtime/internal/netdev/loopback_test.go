package netdev

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLoopbackUp: lo of another namespace is up, and this process's threads are where they were.
func TestLoopbackUp(t *testing.T) {
	_, n := networks(t)
	up := func() bool {
		t.Helper()
		link, err := n.link("lo")
		if err != nil {
			t.Fatal(err)
		}
		return link.flags&unix.IFF_UP != 0
	}
	if up() {
		t.Fatal("lo of a new namespace is up")
	}
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := LoopbackUp(fmt.Sprintf("/proc/self/fd/%d", n.ns.Fd())); err != nil {
		t.Fatal(err)
	}
	if !up() {
		t.Error("lo is down")
	}
	if after, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || after != before {
		t.Errorf("this thread went from %s to %s, %v", before, after, err)
	}
	if err := LoopbackUp("/proc/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no namespace: %v", err)
	}
	if err := LoopbackUp("/proc/self/ns/uts"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a namespace of another kind: %v", err)
	}
}
