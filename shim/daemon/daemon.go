// Package daemon is the frame of the long-lived shim: it serves ttrpc on the socket that start made, logs to containerd, and
// goes away in good order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/shim/bootstrap"
	"github.com/gosuda/gosudacon/shim/rpc"
)

// Config is what the caller of Run decides.
type Config struct {
	Flags bootstrap.Flags
	// Register adds the services to the server, before the first request is read. The function that it returns is called
	// once, after the last request was answered or given up, and ends what the services still do; ctx bounds it.
	Register func(*rpc.Server, Host) (close func(ctx context.Context) error, err error)
}

// Host is what the frame gives to the services.
type Host struct {
	Bundle       string // the directory in which start was called: that of the first container, or of the sandbox
	TTRPCAddress string // containerd's, for events
	Log          *slog.Logger
	// Shutdown makes Run return once the requests at hand are answered. It does not wait.
	Shutdown func()
}

// How long Run waits, when it is to end, for requests to be answered and for the services to close.
const (
	drainTimeout = 2 * time.Second
	closeTimeout = 5 * time.Second
)

// gcPercent puts the first garbage collection at 2.4 MiB of heap, above what the life of one container needs: what a collection
// itself makes (sets of spans, work buffers) costs a shim 0.6 MiB of private memory. Later ones keep it small: after 2000 calls of
// Stats and State and 100 execs it has 4.9 MiB, and would have 6.8 at Go's own pace, 4.2 at 40 (and 2.6 instead of 2.0 before).
const gcPercent = 60

// Run serves until Host.Shutdown is called, SIGTERM or SIGINT arrives, or ctx ends. Containers live on: they are nobody's
// children but ours and the next reaper's. Run changes the process: file descriptor 2, its name, its garbage collection,
// and that it adopts orphans.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := openLog()
	level := slog.LevelInfo
	if c.Flags.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	err := run(ctx, cancel, c, log, w)
	if err != nil {
		log.Error("shim ends", "error", err) // stderr is the log too, but nobody reads the exit status
	}
	return err
}

func run(ctx context.Context, cancel context.CancelFunc, c Config, log *slog.Logger, w *lossyWriter) error {
	debug.SetGCPercent(gcPercent)
	if err := becomeShim(); err != nil {
		return err
	}
	if reason := os.Getenv(bootstrap.ExecutableEnv); reason != "" {
		log.Warn("the shim's file is not on a mount of its own", "reason", reason)
	}
	bundle, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find bundle: %w", err)
	}
	listener, err := listen(c.Flags.Socket, bootstrap.ListenerFD)
	if err != nil {
		return err
	}
	retire := sync.OnceFunc(func() { retireListener(listener) })
	defer retire()
	if c.Flags.Debug {
		debugListener, err := listen(c.Flags.DebugSocket, bootstrap.DebugListenerFD)
		if err != nil {
			log.Warn("no debug socket", "error", err)
		} else {
			defer retireListener(debugListener)
			go serveDebug(debugListener)
		}
	}
	server := rpc.NewServer(log)
	closeServices, err := c.Register(server, Host{
		Bundle: bundle, TTRPCAddress: os.Getenv("TTRPC_ADDRESS"), Log: log, Shutdown: cancel,
	})
	if err != nil {
		return fmt.Errorf("start services: %w", err)
	}
	stopSignals := handleSignals(cancel, w)
	defer stopSignals()

	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	log.Debug("shim serves", "socket", listener.Addr(), "bundle", bundle, "pid", os.Getpid())
	select {
	case <-ctx.Done():
	case err = <-served: // accept failed for good
		cancel()
	}
	retire()
	drain(server, log)

	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	return errors.Join(err, closeServices(closing))
}

// becomeShim sets the properties of the process that outlive any one container.
func becomeShim() error {
	// What a container's processes leave behind is reaped here, not by the host's init, who might take a while.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	// Executed by file descriptor, we are named after its number.
	if err := os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0); err != nil {
		return fmt.Errorf("set process name: %w", err)
	}
	return nil
}

// listen returns a listener on path, or, when path is empty, the inherited one.
func listen(path string, fd uintptr) (net.Listener, error) {
	if path != "" {
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		return l, nil
	}
	f := os.NewFile(fd, "inherited socket")
	defer f.Close() // FileListener has its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherit socket from start: %w", err)
	}
	return l, nil
}

// retireListener removes the file of a listener and then closes it. The other way round, the next start could find the
// socket dead, and have its own removed.
func retireListener(l net.Listener) {
	os.Remove(l.Addr().String())
	l.Close()
}

// drain lets the server answer the requests at hand, whose context has ended, and closes its connections.
func drain(server *rpc.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		log.Warn("requests are given up", "error", err)
	}
	server.Close()
}

// handleSignals ends Run at SIGTERM or SIGINT and writes every goroutine's stack to the log at SIGUSR1.
func handleSignals(cancel context.CancelFunc, w *lossyWriter) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1)
	go func() {
		for s := range signals {
			if s == unix.SIGUSR1 {
				w.dump(stacks())
				continue
			}
			cancel()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
