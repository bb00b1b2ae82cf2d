package host

import (
	"os"
	"testing"
)

func TestSupported(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v669": true, "5.14": true, "5.14.0-362.el9.x86_64": true, "5.15-rc1": true, "7.0.0": true,
		"5.13.19": false, "5.4.0-150-generic": false, "4.18.0": false, "": false,
	} {
		if err := supported(release); (err == nil) != want {
			t.Errorf("%q: %v", release, err)
		}
	}
}

// TestProbe: the facts of this machine are plausible, and those about seccomp are asked, not guessed.
func TestProbe(t *testing.T) {
	h, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	const tsync, log = 1, 2
	if h.LastCap < 40 || h.Capabilities == 0 || h.SeccompFlags&(tsync|log) != tsync|log {
		t.Errorf("%+v", h)
	}
	if again, _ := Probe(); again != h {
		t.Error("probed twice")
	}
}

func TestHasNamespace(t *testing.T) {
	if !HasNamespace("mnt") || HasNamespace("none") {
		t.Error("mount namespaces are not there, or those that no kernel has are")
	}
}

// TestResctrl: what is missing is said, and nothing is when the file system is there.
func TestResctrl(t *testing.T) {
	_, err := os.Stat("/sys/fs/resctrl/schemata")
	if lack := Resctrl(); (lack == "") != (err == nil) {
		t.Errorf("lack %q, %v", lack, err)
	}
}
