package criu

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if _, err := Find(""); !errors.Is(err, ErrNotFound) {
		t.Errorf("in an empty PATH: %v", err)
	}
	program := filepath.Join(dir, "criu")
	if _, err := Find(program); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), program) {
		t.Errorf("by a path that leads nowhere: %v", err)
	}
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", program} {
		if got, err := Find(name); err != nil || got != program {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	log := `(00.000000) Version: 4.2.1 (gitid 0)
(00.027133) Error (criu/files-ext.c:100): Can't dump file 3 of that type [20444] (unknown /dev/fuse)
(00.027140) Warn  (criu/x.c:1): careful
(00.027141)     1: Error (criu/files.c:1221): Unable to open fd=1 id=0x3
(00.027150) Error (criu/cr-dump.c:1975): Dumping FAILED.
`
	want := []string{"Can't dump file 3 of that type [20444] (unknown /dev/fuse)", "Unable to open fd=1 id=0x3", "Dumping FAILED."}
	if got := Errors(strings.NewReader(log)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Errors(strings.NewReader(strings.Repeat(log, 3))); len(got) != maxErrors || got[maxErrors-1] != "Dumping FAILED." {
		t.Errorf("of a long log: %q", got)
	}
}

// TestNotCriu: a program that is none must not be waited for.
func TestNotCriu(t *testing.T) {
	for _, script := range []string{"exit 3", "cat <&3 >/dev/null & echo nonsense >&3; wait", "exec 3>&-; sleep 0.1"} {
		program := filepath.Join(t.TempDir(), "criu")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		ended := 0
		s, err := Start(Setup{Program: program, Start: func(cmd *exec.Cmd) (func() error, error) {
			return func() error { ended++; return cmd.Wait() }, cmd.Start()
		}})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Do(t.Context(), Dump, &Options{}, func(n Notification) error { t.Errorf("told of %+v", n); return nil })
		s.Close()
		if err == nil || ended != 1 {
			t.Errorf("%q: %v, waited for %d times", script, err, ended)
		}
	}
}

func TestResponseErrors(t *testing.T) {
	for _, tc := range []struct {
		r    Response
		want string
	}{
		{Response{Kind: Dump, Success: true}, ""},
		{Response{Kind: Dump}, "criu failed"},
		{Response{Kind: Dump, Message: "no such thing\n"}, "criu failed: no such thing"},
		{Response{Kind: Dump, Errno: unix.ESRCH, Message: "x"}, "criu failed: no such process"},
		{Response{Kind: Restore, Success: true}, "criu answers a dump with a restore"},
	} {
		err := tc.r.check(Dump)
		if got := ""; err != nil {
			got = err.Error()
			if got != tc.want || tc.r.Errno != 0 && !errors.Is(err, tc.r.Errno) {
				t.Errorf("%+v: %v", tc.r, err)
			}
		} else if tc.want != "" {
			t.Errorf("%+v: no error", tc.r)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte{8, 6, 16, 1, 42, 4, 10, 2, 'x', 'y'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Response
		if err := r.Decode(b); err == nil {
			r.check(Dump)
		}
	})
}
