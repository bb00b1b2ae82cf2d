package node

import (
	"encoding/json"
	"net"
	"net/http"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// The media types of what the registry holds. Layers are not compressed: nothing travels.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// registry serves images as containerd pulls them, for every registry whose mirror it is.
type registry struct {
	blobs     map[string][]byte // by digest
	manifests map[string]string // digests, by repository:tag
}

func newRegistry() *registry {
	return &registry{blobs: map[string][]byte{}, manifests: map[string]string{}}
}

// settings is what an image tells of its container.
type settings struct {
	User       string   `json:",omitempty"`
	Env        []string `json:",omitempty"`
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
}

// descriptor points to a blob.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

func (r *registry) add(mediaType string, blob []byte) descriptor {
	d := digest(blob)
	r.blobs[d] = blob
	return descriptor{mediaType, d, len(blob)}
}

// put adds an image of the layers under each of the names, repository:tag, and returns its digest.
func (r *registry) put(s settings, layers [][]byte, names ...string) (string, error) {
	ids, blobs := []string{}, []descriptor{}
	for _, l := range layers {
		blobs = append(blobs, r.add(layerType, l))
		ids = append(ids, digest(l))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": s,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": r.add(configType, config), "layers": blobs,
	})
	if err != nil {
		return "", err
	}
	d := r.add(manifestType, manifest)
	for _, name := range names {
		r.manifests[name] = d.Digest
	}
	return d.Digest, nil
}

// ServeHTTP answers GET and HEAD of the OCI distribution specification's end-2 and end-3.
func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	name, found := strings.CutPrefix(q.URL.Path, "/v2/")
	dir, reference := path.Split(name)
	repository, kind := path.Split(path.Clean(dir))
	if !found || (kind != "manifests" && kind != "blobs") {
		http.NotFound(w, q)
		return
	}
	mediaType := "application/octet-stream"
	if kind == "manifests" {
		mediaType = manifestType
		if d, ok := r.manifests[path.Clean(repository)+":"+reference]; ok {
			reference = d
		}
	}
	blob, ok := r.blobs[reference]
	if !ok {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", reference)
	w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
	if q.Method == http.MethodGet {
		_, _ = w.Write(blob) // who went away sees no answer
	}
}

// listen serves r on a port of the loopback, until the listener is closed.
func (r *registry) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = http.Serve(l, r) }() // its error is that of the closed listener
	return l, nil
}
