package bootstrap

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDecodeGroup(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "id",
		`{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}`:                                       "pod",
		`{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"group"}}`: "group",
		`{"annotations":{"io.containerd.runc.v2.group":""}}`:                                           "",
		`{"annotations":{"io.kubernetes.cri\u002esandbox-id":"pod"}}`:                                  "pod",
		// The name alone is not the annotation.
		`{"process":{"env":["io.containerd.runc.v2.group=x"]}}`: "id",
		`{"hostname":"\u0000"}`:                                 "id",
	} {
		if got, err := decodeGroup([]byte(text), "id"); err != nil || got != want {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
	if _, err := decodeGroup([]byte(`{"io.containerd.runc.v2.group"`), "id"); err == nil {
		t.Error("half a config passes")
	}
}

func TestReadGroup(t *testing.T) {
	dir := t.TempDir()
	if got, err := readGroup(dir, "id"); err != nil || got != "id" {
		t.Errorf("no config.json: got %q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "config.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readGroup(dir, "id"); err == nil {
		t.Error("config.json that cannot be read passes")
	}
}
