package nerdctl

import (
	"strconv"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// TestCheckpoint: a counter in memory goes on where a checkpoint has left it, in the same container.
//
// With runtimes of another name than the runc shim's nerdctl does not ask for the end of the container: that is the caller's then.
func TestCheckpoint(t *testing.T) {
	if shared.noCriu != "" {
		t.Skip(shared.noCriu)
	}
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
	last := func() int {
		t.Helper()
		lines := strings.Fields(must(t, "logs", "--tail", "1", name))
		if len(lines) == 0 {
			return 0
		}
		n, err := strconv.Atoi(lines[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	client.Eventually(t, "it counts", func() bool { return last() > 5 })
	dir := file("checkpoints")
	if *runtimeFlag == runcRuntime {
		must(t, "checkpoint", "create", "--checkpoint-dir", dir, "--leave-running", name, "one")
	} else {
		must(t, "checkpoint", "create", "--checkpoint-dir", dir, name, "one")
	}
	if list := must(t, "checkpoint", "ls", "--checkpoint-dir", dir, name); !strings.Contains(list, "one") {
		t.Errorf("checkpoints: %q", list)
	}
	client.Equal(t, "running", inspect(t, name, "{{.State.Running}}"), "true")
	before := last()
	client.Eventually(t, "it goes on", func() bool { return last() > before })
	must(t, "kill", name)
	client.Eventually(t, "it has ended", func() bool { return inspect(t, name, "{{.State.Running}}") == "false" })
	ended := last()
	must(t, "start", "--checkpoint-dir", dir, "--checkpoint", "one", name)
	client.Equal(t, "running", inspect(t, name, "{{.State.Running}}"), "true")
	client.Eventually(t, "it counts from the checkpoint on", func() bool {
		all := strings.Fields(must(t, "logs", name))
		for i := 1; i < len(all); i++ {
			n, _ := strconv.Atoi(all[i])
			before, _ := strconv.Atoi(all[i-1])
			if n <= before { // the first number of the restored one
				return n > 5 && n <= ended+1 && len(all) > i+3
			}
		}
		return false
	})
	client.Equal(t, "exec", must(t, "exec", name, "cat", "/proc/1/comm"), "sh")
	must(t, "checkpoint", "rm", "--checkpoint-dir", dir, name, "one")
}
