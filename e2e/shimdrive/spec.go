package shimdrive

import (
	"context"
	"encoding/json"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec returns the spec that containerd's clients start from, changed by opts, for a container in the namespace.
func Spec(namespace, id string, opts ...oci.SpecOpts) (*specs.Spec, error) {
	ctx := namespaces.WithNamespace(context.Background(), namespace)
	opts = append([]oci.SpecOpts{oci.WithDefaultUnixDevices, oci.WithEnv([]string{"PATH=/bin"})}, opts...)
	return oci.GenerateSpec(ctx, nil, &containers.Container{ID: id}, opts...)
}

// Config is the text of a spec.
func Config(spec *specs.Spec) ([]byte, error) { return json.Marshal(spec) }
