package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refused checks that a run failed with an error that has the parts; that nothing is left is checked by whoever made the id.
func refused(t *testing.T, r result, parts ...string) {
	t.Helper()
	if r.code == 0 {
		t.Errorf("it succeeded: %s", r.stdout)
	}
	contains(t, "error", r.stderr, parts...)
	if n := strings.Count(strings.TrimSpace(r.stderr), "\n"); n > 0 && *runtimeFlag != runcRuntime && *containerdFlag == "containerd" { // older ones add lines
		t.Errorf("the error has %d lines:\n%s", n+1, r.stderr)
	}
}

func TestRefusesUnknownProgram(t *testing.T) {
	refused(t, run(t, nil, "no-such-program"), "no-such-program", "executable file not found in $PATH")
	refused(t, run(t, nil, "/no/such/program"), "/no/such/program", "no such file or directory")
}

func TestRefusesWhatIsNotExecutable(t *testing.T) {
	refused(t, run(t, nil, "/etc/passwd"), "/etc/passwd", "permission denied")
	refused(t, run(t, nil, "/etc"), "/etc") // "permission denied" of execve, or runc's "is a directory"
}

func TestRefusesMissingMountSource(t *testing.T) {
	refused(t, run(t, []string{"--mount", "type=bind,src=/no/such/source,dst=/mnt,options=rbind"}, "true"), "/no/such/source", "no such file or directory")
}

func TestRefusesEmptyArgs(t *testing.T) {
	refused(t, runSpec(t, specOf(t, shared.rootfs)), "args")
}

func TestRefusesMissingRootfs(t *testing.T) {
	refused(t, runSpec(t, specOf(t, "/no/such/rootfs", "true")), "/no/such/rootfs")
}

func TestRefusesRootfsThatIsAFile(t *testing.T) {
	onRunc(t, "it does not name the file")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, runSpec(t, specOf(t, file, "true")), file)
}

func TestRefusesEscapingCgroup(t *testing.T) {
	onRunc(t, "it cleans the path and goes on")
	spec := specOf(t, shared.rootfs, "true")
	spec["linux"].(map[string]any)["cgroupsPath"] = "/" + shared.daemon.Namespace + "/../../../escape"
	refused(t, runSpec(t, spec), "cgroupsPath")
}

func TestRefusesUnknownNamespacePath(t *testing.T) {
	refused(t, run(t, []string{"--with-ns", "network:/proc/1/no-such-ns"}, "true"), "/proc/1/no-such-ns")
}

func TestRefusesUnknownRlimit(t *testing.T) {
	spec := specOf(t, shared.rootfs, "true")
	spec["process"].(map[string]any)["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}}
	refused(t, runSpec(t, spec), "RLIMIT_NOTHING")
}

func TestRefusesUnknownStdioScheme(t *testing.T) {
	refused(t, run(t, []string{"--log-uri", "gopher:///x"}, "true"), "gopher")
}

func TestRefusesMissingLogger(t *testing.T) {
	refused(t, run(t, []string{"--log-uri", "binary:///no/such/logger"}, "true"), "/no/such/logger")
}

func TestRefusesDuplicateID(t *testing.T) {
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	r := ctr(t, shared.daemon, "run", "--runtime", *runtimeFlag, testImage, id, "true")
	refused(t, r, id, "already exists")
	equal(t, "status of the first", statusOf(t, shared.daemon, id), "RUNNING")
}

func TestRefusesDuplicateExecID(t *testing.T) {
	d := shared.daemon
	id := detached(t, d, nil, "sleep", "1000")
	must(t, d, "task", "exec", "--detach", "--fifo-dir", filepath.Join(d.Dir, "fifo"), "--exec-id", "same", id, "sleep", "1000")
	refused(t, ctr(t, d, "task", "exec", "--exec-id", "same", id, "true"), "same", "already exists")
}

func TestRefusesUnknownUser(t *testing.T) {
	spec := specOf(t, shared.rootfs, "true")
	spec["process"].(map[string]any)["user"] = map[string]any{"uid": 4294967295, "gid": 0}
	if r := runSpec(t, spec); r.code == 0 {
		t.Error("it ran as user -1")
	}
}
