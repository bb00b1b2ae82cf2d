package task

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// criuWork is the directory in a bundle that has criu's log. It stays when criu has failed.
const criuWork = "criu-work"

// checkpointOptions is the only message of options that there is.
const checkpointOptions = "containerd.runc.v1.CheckpointOptions"

// Checkpoint writes the state of a container's processes to a directory, which containerd makes an image of. Unless the options
// say so, they go on.
func (s *Service) Checkpoint(ctx context.Context, r *api.CheckpointTaskRequest) error {
	t, err := s.task(r.ID)
	if err != nil {
		return err
	}
	var o api.CheckpointOptions
	if len(r.Options.Value) > 0 {
		if name := r.Options.Name(); name != checkpointOptions {
			return refuse(engine.InvalidArgument, fmt.Sprintf("unknown type of checkpoint options %q", r.Options.TypeURL))
		}
		if err := o.Decode(r.Options.Value); err != nil {
			return refuse(engine.InvalidArgument, fmt.Sprintf("decode checkpoint options: %v", err))
		}
	}
	for _, ns := range o.EmptyNamespaces {
		if ns != "network" {
			return refuse(engine.InvalidArgument, fmt.Sprintf("checkpoint option empty_namespaces: namespace %q is not supported; network is", ns))
		}
	}
	own := filepath.Join(t.bundle, criuWork)
	request := engine.CheckpointRequest{
		Criu: engine.Criu{
			Program: t.options.CriuPath, Images: r.Path, Work: cmp.Or(o.WorkPath, t.options.CriuWorkPath, own), ManageCgroups: o.CgroupsMode,
			TCPEstablished: o.OpenTCP, ExtUnixSk: o.ExternalUnixSockets, ShellJob: o.Terminal, FileLocks: o.FileLocks,
		},
		LeaveRunning: !o.Exit,
		Parent:       o.ParentPath,
	}
	if err := t.container.Checkpoint(ctx, request); err != nil {
		return neverNotImplemented(ofRuntime("OCI runtime checkpoint failed", err))
	}
	return os.RemoveAll(own)
}

// restoreFrom returns the request for a restore from a directory; "" for none.
//
// The task API has no options for it. What only allows something is allowed: the checkpoint was asked the same.
func restoreFrom(t *task, images string) *engine.RestoreRequest {
	if images == "" {
		return nil
	}
	return &engine.RestoreRequest{Criu: engine.Criu{
		Program: t.options.CriuPath, Images: images, Work: cmp.Or(t.options.CriuWorkPath, filepath.Join(t.bundle, criuWork)),
		TCPEstablished: true, ExtUnixSk: true, FileLocks: true,
	}}
}
