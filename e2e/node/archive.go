package node

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Serve adds the images of an archive of an OCI image layout to the registry, by the names that their annotations give them.
//
// Preconditions: no containerd pulls yet.
func (s *Site) Serve(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	for entries := tar.NewReader(file); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", archive, err)
		}
		text, err := io.ReadAll(entries)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", entry.Name, archive, err)
		}
		switch name := path.Clean(entry.Name); {
		case name == "index.json":
			if err := json.Unmarshal(text, &index); err != nil {
				return fmt.Errorf("decode index.json of %s: %w", archive, err)
			}
		case strings.HasPrefix(name, "blobs/sha256/"):
			s.images.add("", text)
		}
	}
	for _, m := range index.Manifests {
		_, name, found := strings.Cut(m.Annotations["io.containerd.image.name"], "/") // after the registry
		if !found || s.images.blobs[m.Digest] == nil {
			return fmt.Errorf("%s: a manifest without a name or a blob: %+v", archive, m)
		}
		s.images.manifests[name] = m.Digest
	}
	return nil
}
