package cli_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/gosuda/gosudacon/cli"
	"github.com/gosuda/gosudacon/runtime/engine"
)

// run carries out a command line and returns its exit code and what it wrote.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	out, errs := open("stdout"), open("stderr")
	defer out.Close()
	defer errs.Close()
	code = cli.Run(cli.Invocation{Version: "v1.2.3", Args: args, Streams: cli.Streams{In: os.Stdin, Out: out, Err: errs}})
	read := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, read(out), read(errs)
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	config := `{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["/bin/true"]},"linux":{"namespaces":[{"type":"mount"},{"type":"cgroup"}]}}`
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600), os.Mkdir(filepath.Join(dir, "rootfs"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if code, text, _ := run(t, "explain", dir); code != 0 || !strings.Contains(text, `execute ["/bin/true"]`) || !strings.Contains(text, "\n  1  fork ") || !strings.HasPrefix(text, "     caller  linux.cgroupsPath ") {
		t.Errorf("%d\n%s", code, text)
	}
	var x engine.Explanation
	code, text, _ := run(t, "explain", "--json", "--bundle", dir)
	if err := json.Unmarshal([]byte(text), &x); err != nil || code != 0 {
		t.Fatalf("%d, %v: %s", code, err, text)
	}
	last := x.Steps[len(x.Steps)-1]
	first := slices.IndexFunc(x.Steps, func(s engine.PlanStep) bool { return s.Number == 1 })
	if last.Number != len(x.Steps)-first || x.Steps[first-1].Config != "linux.resources.devices" || x.Steps[first].Calls[0] != "clone3" || last.Place != "child" || last.Config != "process.args" || !slices.Equal(last.Calls, []string{"execve"}) {
		t.Errorf("the last step: %+v", last)
	}
	config = strings.Replace(config, `"mount"`, `"moon"`, 1)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	code, text, _ = run(t, "explain", "--json", dir)
	if code != 1 || !strings.Contains(text, `"refused": "config.json: linux.namespaces[0].type: unknown namespace \"moon\""`) {
		t.Errorf("%d %s", code, text)
	}
	for want, part := range map[string]string{
		`"root.path: stat `: `"root":{"path":"elsewhere"}`,
		`"mounts[0]: bind /no/such on /mnt: stat /no/such: no such`:    `"root":{"path":"rootfs"},"mounts":[{"destination":"/mnt","type":"bind","source":"/no/such"}]`,
		`"linux.namespaces: join the network namespace /no/such: stat`: `"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"mount"},{"type":"network","path":"/no/such"}]}`,
		`"hooks.createRuntime: run /no/such`:                           `"root":{"path":"rootfs"},"hooks":{"createRuntime":[{"path":"/no/such"}]}`,
	} {
		want = strings.Replace(want, `"root.`, `"config.json: root.`, 1)
		config := `{"ociVersion":"1.2.0","process":{"cwd":"/","args":["/bin/true"]},"linux":{"namespaces":[{"type":"mount"}]},` + part + `}`
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, text, _ := run(t, "explain", "--json", dir); code != 1 || !strings.Contains(text, `"refused": `+want) {
			t.Errorf("%d %s, want %s", code, text, want)
		}
	}
	if code, _, text := run(t, "explain", t.TempDir()); code != 1 || !strings.Contains(text, "config.json") {
		t.Errorf("a directory without config.json: %d %s", code, text)
	}
}

func TestFeatures(t *testing.T) {
	code, out, _ := run(t, "features")
	var f features.Features
	if err := json.Unmarshal([]byte(out), &f); code != 0 || err != nil || f.OCIVersionMax == "" {
		t.Errorf("%d, %v: %s", code, err, out)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"-h"}, {"help"}} {
		if code, out, _ := run(t, args...); code != 0 || !strings.Contains(out, "explain [BUNDLE]") {
			t.Errorf("%q: %d %s", args, code, out)
		}
	}
	for _, args := range [][]string{{"help", "create"}, {"create", "--help"}, {"create", "-h", "x"}} {
		if code, out, _ := run(t, args...); code != 0 || !strings.Contains(out, "--console-socket SOCKET") {
			t.Errorf("%q: %d %s", args, code, out)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"--version", "-v"} {
		if code, out, _ := run(t, flag); code != 0 || !strings.HasPrefix(out, "gosudacon version v1.2.3\ncommit: ") ||
			!strings.Contains(out, "\nspec: "+specs.Version+"\n") {
			t.Errorf("%d %s", code, out)
		}
	}
}

// TestBadCommandLine: what cannot be understood is said, with exit code 1, before anything happens.
func TestBadCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"fly"}, "unknown command \"fly\""},
		{[]string{"--fly", "state", "x"}, "unknown option --fly"},
		{[]string{"--root"}, "option --root needs a value: DIR"},
		{[]string{"--root", "/", "state", "x"}, "must not be /"},
		{[]string{"--log-format", "xml", "state", "x"}, "neither text nor json"},
		{[]string{"--log", "journald:x", "state", "x"}, "journald is not supported"},
		{[]string{"--cgroup-manager", "fly", "create", "x"}, "\"fly\" is not supported"},
		{[]string{"state"}, "too few arguments"},
		{[]string{"state", "a", "b"}, "too many arguments from \"b\" on"},
		{[]string{"state", "../x"}, "invalid container id"},
		{[]string{"delete", "--force=perhaps", "x"}, "invalid value \"perhaps\""},
		{[]string{"create", "--preserve-fds", "many", "x"}, "invalid value \"many\""},
	} {
		code, out, errs := run(t, c.args...)
		if code != 1 || out != "" || !strings.Contains(errs, strings.ReplaceAll(c.want, `"`, `\"`)) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d %q %q, want %q", c.args, code, out, errs, c.want)
		}
	}
}
