package engine

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// executableText is runc's text for a program that cannot be executed: Docker and nerdctl derive the exit codes 126 and 127
// from it. "" when the step is about something else.
func executableText(e *launch.StepError) string {
	var name string
	stat := false
	switch a := e.Action.(type) {
	case plan.FindExecutable:
		name, stat = a.Name, true
	case plan.Exec:
		name = a.Args[0]
	default:
		return ""
	}
	quoted := fmt.Sprintf("exec: %q: ", name)
	switch {
	case errors.Is(e.Err, unix.ENOENT) && !strings.Contains(name, "/"):
		return quoted + "executable file not found in $PATH"
	case errors.Is(e.Err, unix.ENOENT) && stat:
		return quoted + "stat " + name + ": no such file or directory"
	case errors.Is(e.Err, unix.ENOENT):
		return quoted + "no such file or directory (or the interpreter that its first line or its ELF header names is missing)"
	case errors.Is(e.Err, unix.ENOEXEC):
		return quoted + "exec format error (built for another architecture, or a script without #!)"
	}
	return quoted + e.Err.Error()
}

// refusals translates the lifecycle's reasons: the kind for the caller's protocol, the text that clients know.
var refusals = map[lifecycle.Reason]struct {
	kind Kind
	text string // %[1]s is the request's verb
}{
	lifecycle.NotYetCreated:   {FailedPrecondition, "cannot %s a container that is being created"},
	lifecycle.AlreadyStarted:  {FailedPrecondition, "cannot %s a running process"},
	lifecycle.IsPaused:        {FailedPrecondition, "cannot %s in a paused state"},
	lifecycle.IsStopped:       {FailedPrecondition, "cannot %s a stopped process"},
	lifecycle.IsDeleted:       {NotFound, "cannot %s a deleted process: container does not exist"},
	lifecycle.NotRunning:      {FailedPrecondition, "cannot %s task in created state: container not running"},
	lifecycle.NotPaused:       {FailedPrecondition, "cannot %s a container that is not paused"},
	lifecycle.StillAlive:      {FailedPrecondition, "cannot %s a running process"},
	lifecycle.InitGone:        {FailedPrecondition, "cannot %s: the container's init process is not running"},
	lifecycle.ProcessFinished: {NotFound, "process already finished"},
	lifecycle.AlreadyPaused:   {FailedPrecondition, "cannot %s a paused container"},
}

var verbs = map[lifecycle.Request]string{
	lifecycle.Start: "start", lifecycle.AddExec: "exec", lifecycle.StartExec: "start an exec", lifecycle.Kill: "kill",
	lifecycle.KillAll: "kill", lifecycle.Pause: "pause", lifecycle.Resume: "resume", lifecycle.Update: "update",
	lifecycle.Delete: "delete", lifecycle.Stats: "read the stats of", lifecycle.Pids: "list the processes of",
	lifecycle.Checkpoint: "checkpoint",
}

// refuse returns nil when the request is allowed in the state.
func refuse(s lifecycle.State, r lifecycle.Request) error {
	reason := lifecycle.Decide(s, r)
	if reason == lifecycle.Allowed {
		return nil
	}
	text := refusals[reason]
	if !strings.Contains(text.text, "%") {
		return errorf(text.kind, nil, "%s", text.text)
	}
	return errorf(text.kind, nil, text.text, verbs[r])
}
