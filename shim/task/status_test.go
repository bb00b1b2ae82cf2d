package task

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/rpc"
	"github.com/gosuda/gosudacon/shim/stdio"
)

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		code rpc.Code
		text string
	}{
		{refuse(engine.Internal, "x"), rpc.Unknown, "x"},
		{refuse(engine.InvalidArgument, "x"), rpc.InvalidArgument, "x: invalid argument"},
		{refuse(engine.NotFound, "x"), rpc.NotFound, "x: not found"},
		{refuse(engine.NotFound, "x not found"), rpc.NotFound, "x not found"},
		{refuse(engine.AlreadyExists, "id x"), rpc.AlreadyExists, "id x: already exists"},
		{refuse(engine.FailedPrecondition, "x"), rpc.FailedPrecondition, "x: failed precondition"},
		{refuse(engine.NotImplemented, "x"), rpc.Unimplemented, "x: not implemented"},
		{fmt.Errorf("wrapped: %w", refuse(engine.NotFound, "x")), rpc.NotFound, "wrapped: x: not found"},
		{fmt.Errorf("stdin: %w", stdio.SchemeError("x")), rpc.InvalidArgument, "stdin: unknown STDIO scheme x: invalid argument"},
		{fmt.Errorf("stdout: %w", stdio.UnreadError("/f")), rpc.FailedPrecondition,
			"stdout: nobody reads the FIFO /f: open it for reading first: failed precondition"},
		{context.Canceled, rpc.Canceled, "context canceled"},
		{&engine.Error{Msg: "x", Err: context.DeadlineExceeded}, rpc.DeadlineExceeded, "x"},
		{errors.New("x"), rpc.Unknown, "x"},
	} {
		got := statusOf(c.err)
		if got.Code != c.code || got.Message != c.text {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
}

func TestOfRuntime(t *testing.T) {
	for kind, want := range map[engine.Kind]string{
		engine.Internal:           "OCI: x",
		engine.InvalidArgument:    "OCI: x",
		engine.NotFound:           "OCI: x",
		engine.AlreadyExists:      "x",
		engine.FailedPrecondition: "x",
		engine.NotImplemented:     "x",
	} {
		err := ofRuntime("OCI", refuse(kind, "x"))
		if err.Error() != want || outcomeOf(err) != outcomes[kind] {
			t.Errorf("kind %d: got %v, %v", kind, err, outcomeOf(err))
		}
	}
	if err := ofRuntime("OCI", context.Canceled); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// containerd takes Unimplemented for an older API and asks again.
func TestCreateIsNeverNotImplemented(t *testing.T) {
	err := neverNotImplemented(fmt.Errorf("wrapped: %w", refuse(engine.NotImplemented, "time travel")))
	if outcomeOf(err).code != rpc.FailedPrecondition || err.Error() != "wrapped: time travel" {
		t.Errorf("got %v, %v", outcomeOf(err), err)
	}
	plain := errors.New("x")
	if neverNotImplemented(plain) != plain {
		t.Error("changed another error")
	}
}
