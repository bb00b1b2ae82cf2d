package task

import (
	"context"
	"errors"
	"strings"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/rpc"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// outcome is how an error goes over the wire.
type outcome struct {
	code rpc.Code
	// words end the text, as they do in errors of containerd/errdefs: there are clients that look for them.
	words string
}

// outcomes is the one translation of what the engine refuses. Unknown is what clients know from containerd-shim-runc-v2 for
// whatever its runtime could not do.
var outcomes = [...]outcome{
	engine.Internal:           {rpc.Unknown, ""},
	engine.InvalidArgument:    {rpc.InvalidArgument, "invalid argument"},
	engine.NotFound:           {rpc.NotFound, "not found"},
	engine.AlreadyExists:      {rpc.AlreadyExists, "already exists"},
	engine.FailedPrecondition: {rpc.FailedPrecondition, "failed precondition"},
	engine.NotImplemented:     {rpc.Unimplemented, "not implemented"},
}

// statusOf turns an error into the status that goes over the wire.
func statusOf(err error) *rpc.Error {
	o, text := outcomeOf(err), err.Error()
	if !strings.Contains(text, o.words) {
		text += ": " + o.words
	}
	return &rpc.Error{Code: o.code, Message: text}
}

func outcomeOf(err error) outcome {
	var refused *engine.Error
	var scheme stdio.SchemeError
	var unread stdio.UnreadError
	switch {
	case errors.Is(err, context.Canceled):
		return outcome{code: rpc.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{code: rpc.DeadlineExceeded}
	case errors.As(err, &refused):
		return outcomes[refused.Kind]
	case errors.As(err, &scheme):
		return outcomes[engine.InvalidArgument]
	case errors.As(err, &unread):
		return outcomes[engine.FailedPrecondition]
	}
	return outcomes[engine.Internal]
}

// refuse returns an error of the service itself.
func refuse(kind engine.Kind, text string) error { return &engine.Error{Kind: kind, Msg: text} }

// ofRuntime puts the words in front of err that clients know to find before what a runtime reports. Refusals, which never
// came from a runtime, stay as they are.
func ofRuntime(words string, err error) error {
	var e *engine.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Kind {
	case engine.AlreadyExists, engine.FailedPrecondition, engine.NotImplemented:
		return err
	}
	return &engine.Error{Kind: e.Kind, Msg: words + ": " + e.Msg, Err: e}
}
