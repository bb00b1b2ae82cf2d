package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBesideDirs: it makes the directories that it can, and says which; what it cannot make is left to its caller.
func TestBesideDirs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	long := strings.Repeat("x", besidePath-len(dir))
	if err := os.Mkdir(at("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	ask := []string{at("new"), at("old"), at("missing/new"), at(long), at("last")}
	for i := range besideDirs {
		ask = append(ask, at(strings.Repeat("y", i+1)))
	}
	b, err := MakeNetwork(false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.MakeDirs(ask)
	made := b.Made()
	want := slices.Concat(ask[:1], ask[4:besideDirs+1]) // of those that are asked for all but the two that cannot be made, and the long one
	if !slices.Equal(made, want) {
		t.Errorf("made %q, want %q", made, want)
	}
	for _, p := range ask {
		if _, err := os.Stat(p); (err == nil) != (slices.Contains(want, p) || p == at("old")) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestBesideFails: what it reports instead of a network namespace is there to read, and nobody waits for its directories.
func TestBesideFails(t *testing.T) {
	b, err := MakeNetwork(false, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var report [64]byte
	if n, err := unix.Read(b.socket, report[:]); n != 12 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	b.MakeDirs([]string{dir})
	if made := b.Made(); made != nil {
		t.Errorf("made %q", made)
	}
}

// TestBesideEnds: it ends with its caller, or when that has no use for it any more, whatever it waits for. Another one holds it up no more
// than its caller's other children do.
func TestBesideEnds(t *testing.T) {
	var none *Beside
	none.MakeDirs([]string{"/x"})
	none.Close()
	for range 20 {
		var two [2]*Beside
		for i := range two {
			b, err := MakeNetwork(true, false)
			if err != nil {
				t.Fatal(err)
			}
			two[i] = b
		}
		unix.Close(two[0].socket) // as the end of its caller does
		two[0].process.Wait()
		two[0].socket = -1
		for _, b := range two {
			b.Close()
		}
	}
	if _, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a process is left: %v", err)
	}
}
