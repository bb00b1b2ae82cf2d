package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gosuda/gosudacon/internal/wire"
)

// patience bounds what must happen; nothing is expected to take that long.
const patience = time.Minute

// serve starts a server of ours with the methods of service "s" and returns a client of the ttrpc library.
func serve(t *testing.T, methods Service) (*Server, *ttrpc.Client, net.Addr) {
	t.Helper()
	s := NewServer(slog.New(slog.DiscardHandler))
	s.Register("s", methods)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() {
		client.Close()
		s.Close()
		if err := <-served; err != ErrClosed {
			t.Errorf("Serve: %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return s, client, l.Addr()
}

func echo(_ context.Context, b []byte) ([]byte, error) { return b, nil }

func call(t *testing.T, c *ttrpc.Client, method, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var answer wrapperspb.StringValue
	err := c.Call(ctx, "s", method, wrapperspb.String(text), &answer)
	return answer.Value, err
}

func TestServerAnswersTheLibrarysClient(t *testing.T) {
	_, c, _ := serve(t, Service{
		"echo":   echo,
		"empty":  func(context.Context, []byte) ([]byte, error) { return nil, nil },
		"refuse": func(context.Context, []byte) ([]byte, error) { return nil, &Error{NotFound, "no such thing"} },
		"fail":   func(context.Context, []byte) ([]byte, error) { return nil, errors.New("oops") },
		"panic":  func(context.Context, []byte) ([]byte, error) { panic("at the disco") },
		"long":   func(context.Context, []byte) ([]byte, error) { return make([]byte, maxMessage+1), nil },
		"deadline": func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	for _, text := range []string{"", "x", strings.Repeat("x", 100_000), strings.Repeat("y", maxMessage-100)} {
		if got, err := call(t, c, "echo", text); err != nil || got != text {
			t.Errorf("echo of %d bytes: got %d, %v", len(text), len(got), err)
		}
	}
	if err := c.Call(t.Context(), "s", "empty", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("empty: %v", err)
	}
	for _, want := range []struct {
		method string
		code   codes.Code
		text   string
	}{
		{"refuse", codes.NotFound, "no such thing"},
		{"fail", codes.Unknown, "oops"},
		{"panic", codes.Internal, "panic: internal error: at the disco"},
		{"long", codes.ResourceExhausted, "message length 4194310 exceeds the maximum message size of 4194304"},
		{"none", codes.Unimplemented, "method none"},
	} {
		_, err := call(t, c, want.method, "")
		if status.Code(err) != want.code || status.Convert(err).Message() != want.text {
			t.Errorf("%s: got %v", want.method, err)
		}
	}
	if err := c.Call(t.Context(), "other", "echo", &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "service other") {
		t.Errorf("another service: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "s", "deadline", &emptypb.Empty{}, &emptypb.Empty{}); !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: got %v", err)
	}
}

func TestCallsOfOneConnectionRunTogether(t *testing.T) {
	const n = 50
	var meet sync.WaitGroup
	meet.Add(n)
	_, c, _ := serve(t, Service{"meet": func(_ context.Context, b []byte) ([]byte, error) {
		meet.Done()
		meet.Wait()
		return b, nil
	}})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			text := strings.Repeat("x", i)
			if got, err := call(t, c, "meet", text); err != nil || got != text {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	calls.Wait()
}

func TestCallEndsWithItsClient(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	_, c, _ := serve(t, Service{"wait": func(ctx context.Context, _ []byte) ([]byte, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}})
	go c.Call(context.Background(), "s", "wait", &emptypb.Empty{}, &emptypb.Empty{})
	<-begun
	c.Close()
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Error("it goes on")
	}
}

// What Shutdown waits for is answered; what comes later finds the connection closed.
func TestShutdownLetsCallsFinish(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	s, c, _ := serve(t, Service{"wait": func(_ context.Context, b []byte) ([]byte, error) {
		close(begun)
		<-end
		return b, nil
	}})
	answered := make(chan error, 1)
	go func() {
		got, err := call(t, c, "wait", "x")
		if err == nil && got != "x" {
			err = errors.New(got)
		}
		answered <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown during a call: %v", err)
	}
	close(end)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the call: %v", err)
	}
	if _, err := call(t, c, "wait", "x"); err == nil {
		t.Error("a call after Shutdown was answered")
	}
}

func TestServerRefusesWhatIsNoCall(t *testing.T) {
	_, _, address := serve(t, Service{"echo": echo})
	conn, err := net.Dial("unix", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	good := request{service: "s", method: "echo", payload: []byte{1}}.encode(nil)
	for _, c := range []struct {
		name    string
		stream  uint32
		kind    uint8
		message []byte
		code    Code
	}{
		{"even stream", 2, typeRequest, good, InvalidArgument},
		{"no message", 3, typeRequest, []byte("\xff\xff"), InvalidArgument},
		{"stream used before", 3, typeRequest, good, InvalidArgument},
		{"data of no stream", 5, 3, nil, InvalidArgument},
		{"too long", 7, typeRequest, make([]byte, maxMessage+1), ResourceExhausted},
		{"a good one after all that", 9, typeRequest, good, OK},
	} {
		if err := writeFrame(conn, c.stream, c.kind, 0, c.message); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		h, answer, err := readFrame(conn)
		if err != nil || h.stream != c.stream || h.kind != typeResponse {
			t.Fatalf("%s: got %+v, %v", c.name, h, err)
		}
		payload, err := decodeResponse(answer)
		var e *Error
		switch {
		case c.code == OK && (err != nil || !bytes.Equal(payload, []byte{1})):
			t.Errorf("%s: got %x, %v", c.name, payload, err)
		case c.code != OK && (!errors.As(err, &e) || e.Code != c.code):
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// library starts a server of the ttrpc library and returns a client of ours.
func library(t *testing.T, methods map[string]ttrpc.Method) (*Client, *ttrpc.Server) {
	t.Helper()
	s, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	s.RegisterService("s", &ttrpc.ServiceDesc{Methods: methods})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(context.Background(), l)
	c, err := Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c, s
}

func TestClientOfTheLibrarysServer(t *testing.T) {
	c, server := library(t, map[string]ttrpc.Method{
		"echo": func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var m wrapperspb.StringValue
			if err := unmarshal(&m); err != nil {
				return nil, err
			}
			md, _ := ttrpc.GetMetadata(ctx)
			ns, _ := md.Get("ns")
			if _, timed := ctx.Deadline(); !timed || len(ns) != 1 {
				return nil, status.Errorf(codes.Internal, "namespace %q, deadline %v", ns, timed)
			}
			return wrapperspb.String(ns[0] + m.Value), nil
		},
		"refuse": func(context.Context, func(any) error) (any, error) {
			return nil, status.Error(codes.AlreadyExists, "there it is")
		},
		"hang": func(ctx context.Context, _ func(any) error) (any, error) {
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // the client must not need the answer
			return nil, ctx.Err()
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 3 {
		answer, err := c.Call(ctx, "s", "echo", wire.Encode("x"), [2]string{"ns", "n"})
		if err != nil || string(answer) != string(wire.Encode("nx")) {
			t.Fatalf("got %q, %v", answer, err)
		}
		var e *Error
		if _, err := c.Call(ctx, "s", "refuse", nil); !errors.As(err, &e) || e.Code != AlreadyExists || e.Message != "there it is" {
			t.Fatalf("got %v", err)
		}
		if _, err := c.Call(ctx, "s", "echo", make([]byte, maxMessage)); !errors.As(err, &e) || e.Code != ResourceExhausted {
			t.Fatalf("got %v", err)
		}
	}
	short, cancelShort := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancelShort()
	var e *Error
	if _, err := c.Call(short, "s", "hang", nil); !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &e) || e.Code != DeadlineExceeded) {
		t.Errorf("a call that takes too long: %v", err)
	}
	server.Close()
	if _, err := c.Call(ctx, "s", "echo", nil); err == nil || errors.As(err, &e) {
		t.Errorf("a server that is gone: %v", err)
	}
}

// FuzzFrame: whatever a client sends, the server reads a message, refuses it, or ends the connection.
func FuzzFrame(f *testing.F) {
	var good bytes.Buffer
	writeFrame(&good, 1, typeRequest, flagRemoteClosed, request{service: "s", method: "m", payload: []byte("p"), timeout: 1}.encode([][2]string{{"k", "v"}}))
	f.Add(good.Bytes())
	f.Add(binary.BigEndian.AppendUint32(nil, maxMessage+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, message, err := readFrame(bytes.NewReader(b))
		var refused *Error
		switch {
		case errors.As(err, &refused):
			if h.length <= maxMessage {
				t.Errorf("refused %d bytes", h.length)
			}
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		default:
			if r, err := decodeRequest(message); err == nil && len(r.payload) > len(message) {
				t.Errorf("payload of %d bytes in %d", len(r.payload), len(message))
			}
			decodeResponse(message)
		}
	})
}
