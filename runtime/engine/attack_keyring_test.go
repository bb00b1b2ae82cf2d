package engine_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

const hostKey = "of-the-host"

// haveHostKey puts this process, with all its threads, into a session keyring with a key, as systemd does with its services.
func haveHostKey() {
	if os.Getenv("ENGINE_KEYRING") != "" {
		return
	}
	runtime.LockOSThread()
	_, err := unix.KeyctlJoinSessionKeyring("engine-test-" + itoa(os.Getpid()))
	check(err)
	_, err = unix.AddKey("user", hostKey, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	check(err)
	check(unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), "ENGINE_KEYRING=1")))
}

// TestAttackKeyring: an exec looks for the host's keys in the session keyring that it inherited, and a container that runs
// as the same user looks for another's, by the keyring's name, which it guesses from the id, and by its number. The
// processes of one container share their keys.
func TestAttackKeyring(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := attackSpec(t)
	open, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec), NoNewKeyring: true})
	if err != nil {
		t.Fatal(err)
	}
	if out := attack(t, open, spec, "keys", "search", hostKey); out != "ok" {
		t.Fatalf("without a keyring of the container the host's key is not there: %s", out)
	}
	if _, err := open.Delete(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []string{"host", "userns"} {
		spec := attackSpec(t)
		if tc == "userns" {
			inUserNS(spec)
		}
		victim := started(t, e, spec)
		if out := attack(t, victim, spec, "keys", "search", hostKey); !strings.Contains(out, "required key not available") {
			t.Errorf("%s: an exec looks for the host's key: %s", tc, out)
		}
		if out := attack(t, victim, spec, "keys", "add", "of-the-victim"); out != "ok" {
			t.Fatalf("%s: an exec adds a key: %s", tc, out)
		}
		if out := attack(t, victim, spec, "keys", "search", "of-the-victim"); out != "ok" {
			t.Errorf("%s: another exec looks for the key: %s", tc, out)
		}
		ring := strings.Fields(attack(t, victim, spec, "keys", "id"))[0]
		thief := started(t, e, spec)
		out := attack(t, thief, spec, "keys", "steal", "of-the-victim", "_ses."+victim.ID(), ring)
		for _, line := range []string{"search required key not available", "link permission denied", "describe permission denied"} {
			if !strings.Contains(out, line) {
				t.Errorf("%s: another container: no %q in\n%s", tc, line, out)
			}
		}
	}
}
