package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/gosuda/gosudacon/cli"
)

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	config := `{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["true"]},"linux":{"namespaces":[{"type":"mount"}]}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := cli.Run([]string{"explain", dir}, &out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, `execute ["true"]`) || !strings.HasPrefix(text, "  1  fork ") {
		t.Errorf("got\n%s", text)
	}
	if err := cli.Run([]string{"explain", t.TempDir()}, &out); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("a directory without config.json: %v", err)
	}
}

func TestFeatures(t *testing.T) {
	var out strings.Builder
	if err := cli.Run([]string{"features"}, &out); err != nil {
		t.Fatal(err)
	}
	var f features.Features
	if err := json.Unmarshal([]byte(out.String()), &f); err != nil || f.OCIVersionMax == "" {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestUnknown(t *testing.T) {
	var out strings.Builder
	if err := cli.Run([]string{"fly"}, &out); err == nil {
		t.Error("no error")
	}
	if err := cli.Run(nil, &out); err != nil || !strings.Contains(out.String(), "explain") {
		t.Errorf("help: %v", err)
	}
}
