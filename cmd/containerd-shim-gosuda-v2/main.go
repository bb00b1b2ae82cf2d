// The Go runtime parses mountinfo at each start to find the CPU limit of its cgroup, keeps two files of it open, and looks at
// them every second. GOMAXPROCS is set for every process that matters.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command containerd-shim-gosuda-v2 is gosuda: the verbs that containerd executes, the shim that they leave behind, and,
// under the name gosudacon, a command line for people.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gosuda/gosudacon/cli"
	_ "github.com/gosuda/gosudacon/internal/deepstack" // the stack of the main goroutine
	"github.com/gosuda/gosudacon/internal/onecpu"
	"github.com/gosuda/gosudacon/shim/bootstrap"
	"github.com/gosuda/gosudacon/shim/daemon"
	"github.com/gosuda/gosudacon/shim/events"
	"github.com/gosuda/gosudacon/shim/rpc"
	"github.com/gosuda/gosudacon/shim/sandbox"
	"github.com/gosuda/gosudacon/shim/task"
)

// version is set by the linker (-X main.version=...).
var version string

func main() {
	if filepath.Base(os.Args[0]) == "gosudacon" {
		os.Exit(cli.Run(cli.Invocation{Version: version, Args: os.Args[1:], Seal: true, Streams: cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}))
	}
	if err := run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", bootstrap.RuntimeName, err)
		os.Exit(1)
	}
}

// run is the shim: people install it under all sorts of names, so every name but gosudacon is.
func run(args []string) error {
	onecpu.Threads()
	name := filepath.Base(args[0])
	f, err := bootstrap.ParseFlags(args[1:])
	switch {
	case errors.Is(err, bootstrap.ErrHelp):
		_, err := os.Stdout.WriteString(bootstrap.Usage)
		return err
	case err != nil:
		return err
	case f.Version:
		return bootstrap.PrintVersion(version, name, os.Stdout)
	case f.Info:
		return bootstrap.Info(version, os.Stdin, os.Stdout)
	case f.Verb == bootstrap.VerbStart:
		return bootstrap.Start(f, os.Stdin, os.Stdout)
	case f.Verb == bootstrap.VerbDelete:
		return bootstrap.Delete(f, os.Stdout, os.Stderr)
	}
	return serve(f)
}

// serve is the shim that start leaves behind.
func serve(f bootstrap.Flags) error {
	return daemon.Run(context.Background(), daemon.Config{
		Flags: f,
		Register: func(server *rpc.Server, host daemon.Host) (func(context.Context) error, error) {
			outbox := events.New(events.Config{Address: host.TTRPCAddress, Namespace: f.Namespace, Log: host.Log})
			service := task.New(task.Config{
				Namespace: f.Namespace, Publish: outbox.Publish, Shutdown: host.Shutdown, Log: host.Log,
			})
			service.Register(server)
			sandbox.New(service).Register(server)
			return outbox.Close, nil
		},
	})
}
