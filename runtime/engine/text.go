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

// kinds translates the lifecycle's reasons for the caller's protocol.
var kinds = map[lifecycle.Reason]Kind{
	lifecycle.NotYetCreated: FailedPrecondition, lifecycle.AlreadyStarted: FailedPrecondition, lifecycle.IsPaused: FailedPrecondition,
	lifecycle.IsStopped: FailedPrecondition, lifecycle.IsDeleted: NotFound, lifecycle.NotRunning: FailedPrecondition,
	lifecycle.NotPaused: FailedPrecondition, lifecycle.StillAlive: FailedPrecondition, lifecycle.InitGone: FailedPrecondition,
	lifecycle.ProcessFinished: NotFound, lifecycle.AlreadyPaused: FailedPrecondition,
}

var verbs = map[lifecycle.Request]string{
	lifecycle.Start: "start", lifecycle.AddExec: "exec", lifecycle.StartExec: "exec", lifecycle.Kill: "kill",
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
	return errorf(kinds[reason], nil, "%s", refusal(s, r, reason))
}

// refusal is the text of a refused request, as clients of containerd-shim-runc-v2 know it.
func refusal(s lifecycle.State, r lifecycle.Request, reason lifecycle.Reason) string {
	switch {
	case reason == lifecycle.ProcessFinished:
		return "process already finished"
	case reason == lifecycle.IsDeleted:
		return "container does not exist"
	case r == lifecycle.AddExec || r == lifecycle.StartExec:
		return fmt.Sprintf("cannot exec in a %s state", s)
	case s == lifecycle.Created || s == lifecycle.Creating:
		return fmt.Sprintf("cannot %s task in %s state", verbs[r], s)
	case r == lifecycle.Start || r == lifecycle.Delete || s == lifecycle.Running:
		return fmt.Sprintf("cannot %s a %s process", verbs[r], s)
	}
	return fmt.Sprintf("cannot %s a %s container", verbs[r], s)
}

// ErrNotRunning is the answer where a live init is needed, in runc's words: callers look for them.
var ErrNotRunning = &Error{Kind: FailedPrecondition, Msg: "container not running"}

// refuseDetached is refuse in the words of runc's command line.
func refuseDetached(s lifecycle.State, r lifecycle.Request) error {
	reason := lifecycle.Decide(s, r)
	if reason == lifecycle.Allowed {
		return nil
	}
	return errorf(kinds[reason], nil, "%s", detachedRefusal(s, r, reason))
}

func detachedRefusal(s lifecycle.State, r lifecycle.Request, reason lifecycle.Reason) string {
	switch {
	case reason == lifecycle.IsDeleted:
		return errGone.Msg
	case reason == lifecycle.AlreadyStarted:
		return "cannot start an already running container"
	case r == lifecycle.Resume:
		return "container not paused"
	case r == lifecycle.Start && s == lifecycle.Stopped:
		return "cannot start a container that has stopped"
	case r == lifecycle.StartExec && s == lifecycle.Stopped:
		return "cannot exec in a stopped container"
	case r == lifecycle.StartExec && s == lifecycle.Paused:
		return "cannot exec in a paused container (use --ignore-paused to override)"
	case r == lifecycle.Start || r == lifecycle.StartExec:
		return fmt.Sprintf("cannot %s a container in the %s state", verbs[r], s)
	}
	return ErrNotRunning.Msg
}
