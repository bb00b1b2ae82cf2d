package launch

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// TestSaidBeforeTheEnd: what a child has said before the context ended counts, and nothing is waited for after it.
func TestSaidBeforeTheEnd(t *testing.T) {
	for _, files := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pipes, err := makePipes(files)
		if err != nil {
			t.Fatal(err)
		}
		defer pipes.close()
		f := &flight{plan: &plan.Plan{SendsFiles: files}, pipes: pipes, sent: -1}
		defer interruptible(ctx, pipes)()

		report := binary.NativeEndian.AppendUint32(nil, uint32(gateReady))
		report = binary.NativeEndian.AppendUint32(report, 7)
		report = binary.NativeEndian.AppendUint32(report, 0)
		for range 2 {
			if _, err := unix.Write(pipes.report, report); err != nil {
				t.Fatal(err)
			}
			cancel()
			if rep, err := f.next(ctx); err != nil || rep == nil || rep.Kind != gateReady || rep.Step != 7 {
				t.Errorf("files %t: %+v, %v", files, rep, err)
			}
			if rep, err := f.next(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("files %t: after the end: %+v, %v", files, rep, err)
			}
		}
		pipes.closeChildEnds()
		if rep, err := f.next(ctx); rep != nil || err != nil {
			t.Errorf("files %t: the end of the pipe: %+v, %v", files, rep, err)
		}
	}
}

// TestEndWhileWaiting: the end of the context ends a wait for a child that says nothing.
func TestEndWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pipes, err := makePipes(false)
	if err != nil {
		t.Fatal(err)
	}
	defer pipes.close()
	f := &flight{plan: &plan.Plan{}, pipes: pipes, sent: -1}
	defer interruptible(ctx, pipes)()
	ended := make(chan error)
	go func() {
		_, err := f.next(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
