package task

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/stdio"
)

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{refuse(engine.Internal, "x"), codes.Unknown},
		{refuse(engine.InvalidArgument, "x"), codes.InvalidArgument},
		{refuse(engine.NotFound, "x"), codes.NotFound},
		{refuse(engine.AlreadyExists, "x"), codes.AlreadyExists},
		{refuse(engine.FailedPrecondition, "x"), codes.FailedPrecondition},
		{refuse(engine.NotImplemented, "x"), codes.Unimplemented},
		{fmt.Errorf("wrapped: %w", refuse(engine.NotFound, "x")), codes.NotFound},
		{fmt.Errorf("stdin x: %w", stdio.SchemeError("x")), codes.InvalidArgument},
		{context.Canceled, codes.Canceled},
		{&engine.Error{Msg: "x", Err: context.DeadlineExceeded}, codes.DeadlineExceeded},
		{errors.New("x"), codes.Unknown},
	} {
		got := statusOf(c.err)
		if status.Code(got) != c.want || status.Convert(got).Message() != c.err.Error() {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
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
		if err.Error() != want || codeOf(err) != kindCodes[kind] {
			t.Errorf("kind %d: got %v, %v", kind, err, codeOf(err))
		}
	}
	if err := ofRuntime("OCI", context.Canceled); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// containerd takes Unimplemented for an older API and asks again.
func TestCreateIsNeverNotImplemented(t *testing.T) {
	err := neverNotImplemented(fmt.Errorf("wrapped: %w", refuse(engine.NotImplemented, "time travel")))
	if codeOf(err) != codes.FailedPrecondition || err.Error() != "wrapped: time travel" {
		t.Errorf("got %v, %v", codeOf(err), err)
	}
	plain := errors.New("x")
	if neverNotImplemented(plain) != plain {
		t.Error("changed another error")
	}
}
