package task

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// kindCodes is the one translation of what the engine refuses. Unknown is what clients know from containerd-shim-runc-v2 for
// whatever its runtime could not do.
var kindCodes = [...]codes.Code{
	engine.Internal:           codes.Unknown,
	engine.InvalidArgument:    codes.InvalidArgument,
	engine.NotFound:           codes.NotFound,
	engine.AlreadyExists:      codes.AlreadyExists,
	engine.FailedPrecondition: codes.FailedPrecondition,
	engine.NotImplemented:     codes.Unimplemented,
}

// statusOf turns an error into the status that goes over the wire. ttrpc's own conversion knows bare sentinels only.
func statusOf(err error) error {
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	var refused *engine.Error
	var scheme stdio.SchemeError
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.As(err, &refused):
		return kindCodes[refused.Kind]
	case errors.As(err, &scheme):
		return codes.InvalidArgument
	}
	return codes.Unknown
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
