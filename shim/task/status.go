package task

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// outcome is how an error goes over the wire.
type outcome struct {
	code codes.Code
	// words end the text, as they do in errors of containerd/errdefs: there are clients that look for them.
	words string
}

// outcomes is the one translation of what the engine refuses. Unknown is what clients know from containerd-shim-runc-v2 for
// whatever its runtime could not do.
var outcomes = [...]outcome{
	engine.Internal:           {codes.Unknown, ""},
	engine.InvalidArgument:    {codes.InvalidArgument, "invalid argument"},
	engine.NotFound:           {codes.NotFound, "not found"},
	engine.AlreadyExists:      {codes.AlreadyExists, "already exists"},
	engine.FailedPrecondition: {codes.FailedPrecondition, "failed precondition"},
	engine.NotImplemented:     {codes.Unimplemented, "not implemented"},
}

// statusOf turns an error into the status that goes over the wire. ttrpc's own conversion knows bare sentinels only.
func statusOf(err error) error {
	o, text := outcomeOf(err), err.Error()
	if !strings.Contains(text, o.words) {
		text += ": " + o.words
	}
	return status.Error(o.code, text)
}

func outcomeOf(err error) outcome {
	var refused *engine.Error
	var scheme stdio.SchemeError
	switch {
	case errors.Is(err, context.Canceled):
		return outcome{code: codes.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{code: codes.DeadlineExceeded}
	case errors.As(err, &refused):
		return outcomes[refused.Kind]
	case errors.As(err, &scheme):
		return outcomes[engine.InvalidArgument]
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
