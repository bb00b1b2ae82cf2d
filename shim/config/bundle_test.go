package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	runc "github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
)

func TestBundleRoundTrip(t *testing.T) {
	bundle := t.TempDir()
	if got, err := ReadBundle(bundle); err != nil || got != (Options{}) {
		t.Fatalf("empty bundle: got %+v, %v", got, err)
	}
	want := all
	want.Trace = "/t"
	if err := WriteBundle(bundle, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadBundle(bundle); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if text, err := os.ReadFile(filepath.Join(bundle, "runtime")); err != nil || string(text) != want.BinaryName {
		t.Errorf("runtime: got %q, %v", text, err)
	}
	entries, err := os.ReadDir(bundle)
	if err != nil || len(entries) != 2 {
		t.Errorf("left in the bundle: %v, %v", entries, err)
	}
}

// TestBundleIsRuncShims reads what containerd-shim-runc-v2 writes (encoding/json of its message) and the other way round.
func TestBundleIsRuncShims(t *testing.T) {
	bundle := t.TempDir()
	path := filepath.Join(bundle, "options.json")
	text, err := json.Marshal(allMessage)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadBundle(bundle); err != nil || got != all {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := WriteBundle(bundle, all); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back runc.Options
	if err := json.Unmarshal(text, &back); err != nil || !proto.Equal(&back, allMessage) {
		t.Errorf("got %v, %v", &back, err)
	}
}

func TestReadBundleBroken(t *testing.T) {
	bundle := t.TempDir()
	if err := os.WriteFile(filepath.Join(bundle, "options.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBundle(bundle); err == nil {
		t.Error("half a file passes")
	}
}

func TestAddress(t *testing.T) {
	bundle := t.TempDir()
	if got, err := ReadAddress(bundle); err != nil || got != "" {
		t.Errorf("none: got %q, %v", got, err)
	}
	if err := WriteAddress(bundle, "unix:///s/x"); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAddress(bundle); err != nil || got != "unix:///s/x" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := WriteAddress(filepath.Join(bundle, "gone"), "x"); err == nil {
		t.Error("no bundle: no error")
	}
}
