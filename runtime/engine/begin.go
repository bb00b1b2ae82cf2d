package engine

import (
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Beginning is what of a container can be begun without an engine: its config, and its network namespace, which takes the kernel longer
// than anything else.
type Beginning struct {
	spec    *specs.Spec
	network *launch.Beside
}

// Begin begins with a container, for a caller that has something else to do before it calls Create, such as to make an engine. It sets
// r.Begun, which the caller closes.
func Begin(r *CreateRequest) error {
	spec, err := r.load()
	if err != nil {
		return err
	}
	b := &Beginning{spec: spec}
	if r.Restore == nil && plan.NetworkBeside(spec) { // criu makes its own
		if b.network, err = launch.MakeNetwork(r.Trace, r.FailStep == 1); err != nil {
			return fmt.Errorf("linux.namespaces: %w", err)
		}
	}
	r.Begun = b
	return nil
}

// load reads the config.
func (r *CreateRequest) load() (*specs.Spec, error) {
	if !filepath.IsAbs(r.Bundle) {
		return nil, errorf(InvalidArgument, nil, "bundle %q is not an absolute path", r.Bundle)
	}
	config := r.Config
	if config == "" {
		config = bundle.ConfigFile(r.Bundle)
	}
	spec, err := bundle.Load(config)
	if err != nil {
		return nil, errorf(InvalidArgument, err, "%v", err)
	}
	return spec, nil
}

// Close gives up what no container has taken over. It may be called more than once; b may be nil.
func (b *Beginning) Close() {
	if b != nil {
		b.network.Close()
		b.network = nil
	}
}
