package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/runtime/engine"
)

// fileLimit bounds what is read of a file of a bundle, in bytes.
const fileLimit = 16 << 20

// groupAnnotations name the annotations whose value makes containers share a shim; the first one present wins.
var groupAnnotations = []string{"io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"}

// readGroup returns what stands for the container in the name of its shim's socket: the group of its annotations, or id.
// A bundle without config.json is that of a sandbox, which is its own group.
func readGroup(bundle, id string) (string, error) {
	text, err := trusted.ReadRegular(filepath.Join(bundle, "config.json"), fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return "", fmt.Errorf("read config.json: %w", err)
	}
	group, err := decodeGroup(text, id)
	if err != nil {
		return "", fmt.Errorf("decode config.json: %w", err)
	}
	return group, nil
}

// decodeGroup looks for the annotations' names before it decodes anything: most configs have none, and a decoder needs
// 0.2 ms for the mounts and the seccomp profile around them. Only an escape could hide a name.
func decodeGroup(text []byte, id string) (string, error) {
	if !bytes.Contains(text, []byte(groupAnnotations[0])) && !bytes.Contains(text, []byte(groupAnnotations[1])) &&
		!bytes.Contains(text, []byte(`\u`)) {
		return id, nil
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := engine.Decode(text, &spec); err != nil {
		return "", err
	}
	for _, name := range groupAnnotations {
		if group, ok := spec.Annotations[name]; ok {
			return group, nil
		}
	}
	return id, nil
}
