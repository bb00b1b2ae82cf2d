// Package shimdrive drives a containerd shim as containerd does, without containerd: it executes its verbs, speaks ttrpc with it and
// takes its events.
package shimdrive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Host plays containerd. Close it.
type Host struct {
	dir, namespace string
	server         *ttrpc.Server

	mu     sync.Mutex
	more   *sync.Cond
	events []*types.Envelope
}

// NewHost makes a host whose files are in dir, which the caller made and removes. The path must be short: unix sockets are made in it.
//
// The calling process becomes a subreaper: the shims that the start verb leaves behind become its children.
func NewHost(dir, namespace string) (*Host, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	h := &Host{dir: dir, namespace: namespace}
	h.more = sync.NewCond(&h.mu)
	if err := os.Mkdir(h.SocketDir(), 0o700); err != nil {
		return nil, err
	}
	return h, h.TakeEvents()
}

// TakeEvents listens for events; NewHost does it first, and a caller again after StopEvents.
func (h *Host) TakeEvents() error {
	l, err := net.Listen("unix", h.address()+".ttrpc")
	if err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	if h.server, err = ttrpc.NewServer(); err != nil {
		return errors.Join(err, l.Close())
	}
	eventsapi.RegisterTTRPCEventsService(h.server, h)
	go func(s *ttrpc.Server) { _ = s.Serve(context.Background(), l) }(h.server) // ends with ErrServerClosed
	return nil
}

// StopEvents takes no more events, as a containerd that has gone.
func (h *Host) StopEvents() error { return h.server.Close() }

// Close stops taking events. It does not touch shims.
func (h *Host) Close() error { return h.StopEvents() }

func (h *Host) address() string { return filepath.Join(h.dir, "c.sock") }

// SocketDir is the directory in which the shims make their sockets.
func (h *Host) SocketDir() string { return filepath.Join(h.dir, "s") }

// Forward takes an event of a shim.
func (h *Host) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, r.Envelope)
	h.more.Broadcast()
	return &emptypb.Empty{}, nil
}

// Topics returns the topics of all events so far, in the order of their arrival.
func (h *Host) Topics() (topics []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		topics = append(topics, e.Topic)
	}
	return topics
}

// WaitTopic waits for an event of the topic, at most for patience, and returns the topics of all events so far. An event that comes
// twice in a row counts once: a shim that could not hear our answer has to send it again.
func (h *Host) WaitTopic(topic string, patience time.Duration) []string {
	over := false
	alarm := time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		over = true
		h.more.Broadcast()
	})
	defer alarm.Stop()
	h.mu.Lock()
	for !over && !slices.ContainsFunc(h.events, func(e *types.Envelope) bool { return e.Topic == topic }) {
		h.more.Wait()
	}
	h.mu.Unlock()
	return slices.Compact(h.Topics())
}

// Bundle is the directory that containerd hands to a shim for one container. Close it when the container is gone.
type Bundle struct {
	ID, Path string
	log      *os.File
	logText  bytes.Buffer
	logDone  chan struct{}
}

// NewBundle makes a bundle with an empty rootfs directory and, unless config is nil, that config.json.
func (h *Host) NewBundle(id string, config []byte) (*Bundle, error) {
	b := &Bundle{ID: id, Path: filepath.Join(h.dir, "b", id), logDone: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(b.Path, "rootfs"), 0o711); err != nil {
		return nil, err
	}
	if config != nil {
		if err := os.WriteFile(filepath.Join(b.Path, "config.json"), config, 0o600); err != nil {
			return nil, err
		}
	}
	log := filepath.Join(b.Path, "log")
	if err := unix.Mkfifo(log, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", log, err)
	}
	var err error
	if b.log, err = os.OpenFile(log, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	go func() {
		defer close(b.logDone)
		_, _ = io.Copy(&b.logText, b.log) // ends when Close closes it
	}()
	return b, nil
}

// Close removes the bundle and returns what the shim logged.
func (b *Bundle) Close() (log string, err error) {
	err = b.log.Close()
	<-b.logDone
	err = errors.Join(err, unix.Unmount(filepath.Join(b.Path, "rootfs"), unix.MNT_DETACH))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = nil // nothing was mounted, as it should be
	}
	return b.logText.String(), errors.Join(err, os.RemoveAll(b.Path))
}

// Binary is a shim's program and what containerd gives every one of its verbs.
type Binary struct {
	Path string
	// Options are the runtime's options, nil for none.
	Options *anypb.Any
	// Env is added to the environment.
	Env []string
	// Debug is containerd's log level debug.
	Debug bool
}

func (h *Host) verb(ctx context.Context, b Binary, bundle *Bundle, verb string) *exec.Cmd {
	args := []string{"-namespace", h.namespace, "-address", h.address(), "-publish-binary", "/bin/false", "-id", bundle.ID}
	if verb == "delete" {
		args = append(args, "-bundle", bundle.Path)
	}
	if b.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.CommandContext(ctx, b.Path, append(args, verb)...)
	cmd.Dir = bundle.Path
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MAX_SHIM_VERSION=2", "TTRPC_ADDRESS="+h.address()+".ttrpc", "GRPC_ADDRESS="+h.address(), "NAMESPACE="+h.namespace)
	cmd.Env = append(cmd.Env, b.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Shim is a connection to a running shim.
type Shim struct {
	Task   taskapi.TTRPCTaskService
	Result *bootapi.BootstrapResult
	conn   net.Conn
	client *ttrpc.Client
}

// Start executes the start verb with the bootstrap protocol of containerd 2.3 and later, and connects to the shim.
func (h *Host) Start(ctx context.Context, b Binary, bundle *Bundle) (*Shim, error) {
	dir := h.SocketDir()
	params := &bootapi.BootstrapParams{
		InstanceID:             bundle.ID,
		Namespace:              h.namespace,
		ContainerdVersion:      "2.4.2",
		ContainerdGrpcAddress:  h.address(),
		ContainerdTtrpcAddress: h.address() + ".ttrpc",
		ContainerdBinary:       "/bin/false",
		SocketDir:              &dir,
	}
	if b.Options != nil {
		if err := params.AddExtension(b.Options); err != nil {
			return nil, err
		}
	}
	in, err := proto.Marshal(params)
	if err != nil {
		return nil, err
	}
	out, err := h.run(ctx, b, bundle, "start", in)
	if err != nil {
		return nil, err
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("parse the answer of start: %w: %q", err, out)
	}
	return connect(&result)
}

// StartLegacy executes the start verb as containerd 1.6 to 2.2 do and connects to the shim; the options travel alone, the answer is
// JSON.
func (h *Host) StartLegacy(ctx context.Context, b Binary, bundle *Bundle) (*Shim, error) {
	var in []byte
	if b.Options != nil {
		var err error
		if in, err = proto.Marshal(b.Options); err != nil {
			return nil, err
		}
	}
	out, err := h.run(ctx, b, bundle, "start", in)
	if err != nil {
		return nil, err
	}
	var result struct {
		Version           int32
		Address, Protocol string
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("parse the answer of start: %w: %q", err, out)
	}
	return connect(&bootapi.BootstrapResult{Version: result.Version, Address: result.Address, Protocol: result.Protocol})
}

// run executes a verb; what it prints on either stream is its answer, as for containerd.
func (h *Host) run(ctx context.Context, b Binary, bundle *Bundle, verb string, in []byte) ([]byte, error) {
	cmd := h.verb(ctx, b, bundle, verb)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", b.Path, verb, err, out)
	}
	return out, nil
}

// Connect connects once more to the shim, as containerd does for another container of a pod.
func (s *Shim) Connect() (*Shim, error) { return connect(s.Result) }

func connect(result *bootapi.BootstrapResult) (*Shim, error) {
	path := strings.TrimPrefix(result.Address, "unix://")
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the shim: %w", err)
	}
	client := ttrpc.NewClient(conn)
	s := &Shim{Result: result, conn: conn, client: client}
	switch result.Version {
	case 2:
		s.Task = v2{client}
	case 3:
		s.Task = taskapi.NewTTRPCTaskClient(client)
	default:
		conn.Close()
		return nil, fmt.Errorf("connect to the shim: version %d is unknown", result.Version)
	}
	return s, nil
}

// Close closes the connection and returns when it is closed.
func (s *Shim) Close() error {
	err := s.client.Close()
	_ = s.client.UserOnCloseWait(context.Background())
	return err
}

// Shutdown tells the shim to end if nothing is left for it to do, as containerd does after every container, and closes the
// connection. A shim that ends before it answers is tolerated.
func (s *Shim) Shutdown(ctx context.Context, id string) error {
	_, err := s.Task.Shutdown(ctx, &taskapi.ShutdownRequest{ID: id})
	if err != nil && !errors.Is(err, ttrpc.ErrClosed) {
		return fmt.Errorf("shutdown: %w", err)
	}
	return s.Close()
}

// Reap waits for a process that became our child.
func Reap(pid int) error {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("wait for process %d: %w", pid, err)
			}
			return nil
		}
	}
}

// Delete executes the delete verb and returns its answer.
func (h *Host) Delete(ctx context.Context, b Binary, bundle *Bundle) (*taskapi.DeleteResponse, error) {
	cmd := h.verb(ctx, b, bundle, "delete")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s delete: %w: %s", b.Path, err, &stderr)
	}
	var r taskapi.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("parse the answer of delete: %w: %q", err, out)
	}
	return &r, nil
}
