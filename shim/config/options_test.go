package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runc "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// all is an Options with every field set that containerd.runc.v1.Options of containerd 2 has.
var all = Options{
	NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "/shims", IoUID: 7, IoGID: 1<<32 - 1, BinaryName: "crun",
	Root: "/run/elsewhere", SystemdCgroup: true, CriuImagePath: "/image", CriuWorkPath: "/work",
}

var allMessage = &runc.Options{
	NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "/shims", IoUid: 7, IoGid: 1<<32 - 1, BinaryName: "crun",
	Root: "/run/elsewhere", SystemdCgroup: true, CriuImagePath: "/image", CriuWorkPath: "/work",
}

func body(t *testing.T, m proto.Message) (string, []byte) {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a.TypeUrl, a.Value
}

func TestDecodeRuncOptions(t *testing.T) {
	url, value := body(t, allMessage)
	for _, url := range []string{url, "containerd.runc.v1.Options", "types.googleapis.com/containerd.runc.v1.Options"} {
		got, err := Decode(url, value)
		if err != nil || got != all {
			t.Errorf("%s: got %+v, %v", url, got, err)
		}
	}
}

func TestDecodeNothing(t *testing.T) {
	if got, err := Decode("", nil); err != nil || got != (Options{}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := Decode("runtimeoptions.v1.Options", nil); err != nil || got != (Options{}) {
		t.Errorf("empty runtimeoptions: got %+v, %v", got, err)
	}
}

const allTOML = `
TypeUrl = "runtimeoptions.v1.Options"
ConfigPath = ""
NoPivotRoot = true
NoNewKeyring = true
ShimCgroup = "/shims"
IoUid = 7
IoGid = 4294967295
BinaryName = "crun"
Root = "/run/elsewhere"
CriuPath = "/usr/sbin/criu"
systemdCgroup = true
CriuImagePath = "/image"
CriuWorkPath = "/work"
Trace = "/var/log/plan"
`

func TestDecodeTOML(t *testing.T) {
	want := all
	want.CriuPath, want.Trace = "/usr/sbin/criu", "/var/log/plan"

	_, value := body(t, &runtimeoptions.Options{ConfigBody: []byte(allTOML)})
	for _, url := range []string{"runtimeoptions.v1.Options", "types.googleapis.com/cri.runtimeoptions.v1.Options"} {
		if got, err := Decode(url, value); err != nil || got != want {
			t.Errorf("ConfigBody, %s: got %+v, %v", url, got, err)
		}
	}

	path := filepath.Join(t.TempDir(), "options.toml")
	if err := os.WriteFile(path, []byte(allTOML), 0o600); err != nil {
		t.Fatal(err)
	}
	// ConfigPath wins over ConfigBody.
	url, value := body(t, &runtimeoptions.Options{ConfigPath: path, ConfigBody: []byte("IoUid = 1")})
	if got, err := Decode(url, value); err != nil || got != want {
		t.Errorf("ConfigPath: got %+v, %v", got, err)
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	toml := func(text string) proto.Message { return &runtimeoptions.Options{ConfigBody: []byte(text)} }
	file := filepath.Join(t.TempDir(), "o.toml")
	if err := os.WriteFile(file, []byte("NoSuchKey = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options proto.Message
		want    string
	}{
		{toml("NoSuchKey = 1"), "runtime option NoSuchKey: unknown"},
		{toml("SystemdCgroup = 'yes'"), "runtime option SystemdCgroup: want a boolean, got yes"},
		{toml("IoUid = -1"), "runtime option IoUid: want an integer from 0 to 4294967295, got -1"},
		{toml("IoGid = 4294967296"), "runtime option IoGid: want an integer from 0 to 4294967295, got 4294967296"},
		{toml("Root = 3"), "runtime option Root: want a string, got 3"},
		{toml("Root = 'run'"), `runtime option Root: "run" is not an absolute path`},
		{toml("[Root]\na = 1"), "runtime option Root: want a string"},
		{toml("ConfigPath = '/x'"), "runtime option ConfigPath: unknown"},
		{toml("Root = "), "parse runtime options: "},
		{&runtimeoptions.Options{ConfigPath: file}, file + ": runtime option NoSuchKey: unknown"},
		{&runtimeoptions.Options{ConfigPath: "/no/such/file"}, "read runtime options: open /no/such/file"},
		{&runtimeoptions.Options{ConfigPath: "o.toml"}, `runtime option ConfigPath: "o.toml" is not absolute`},
		{&runc.Options{Root: "x"}, `runtime option Root: "x" is not an absolute path`},
	} {
		url, value := body(t, c.options)
		got, err := Decode(url, value)
		if err == nil || !strings.Contains(err.Error(), c.want) || got != (Options{}) {
			t.Errorf("%v: got %+v, %v, want %q", c.options, got, err, c.want)
		}
		if errors.Is(err, ErrUnknownType) {
			t.Errorf("%v: %v is not an unknown type", c.options, err)
		}
	}
}

func TestDecodeRefusesOtherMessages(t *testing.T) {
	_, err := Decode("types.googleapis.com/windows.v1.Options", []byte{8, 1})
	if !errors.Is(err, ErrUnknownType) || !strings.Contains(err.Error(), "windows.v1.Options") {
		t.Errorf("unknown type: got %v", err)
	}
	if Known("windows.v1.Options") || Known("xruntimeoptions.v1.Options") || !Known("a/b.runtimeoptions.v1.Options") {
		t.Error("Known is wrong")
	}
	// The two messages have the same field numbers: one under the other's name must not pass.
	_, value := body(t, &runtimeoptions.Options{ConfigPath: "/x"})
	if _, err := Decode("containerd.runc.v1.Options", value); err == nil || !strings.Contains(err.Error(), "NoNewKeyring") {
		t.Errorf("runtimeoptions as runc options: got %v", err)
	}
	if _, err := Decode("containerd.runc.v1.Options", []byte{0x3a, 0xff}); err == nil {
		t.Error("malformed message passes")
	}
}

func TestStateRoot(t *testing.T) {
	if got := (Options{}).StateRoot("k8s.io"); got != "/run/containerd/gosuda/k8s.io" {
		t.Errorf("got %s", got)
	}
	if got := (Options{Root: "/r/"}).StateRoot("ns"); got != "/r/ns" {
		t.Errorf("got %s", got)
	}
}

// TestExampleHasEveryOption keeps config.toml.example complete and true: uncommented, its table of options has every key
// with the default.
func TestExampleHasEveryOption(t *testing.T) {
	text, err := os.ReadFile("../../config.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "runtimes.gosuda.options]")
	var body strings.Builder
	for line := range strings.Lines(table) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "# ")
		key, _, ok := strings.Cut(line, " = ")
		if !ok || strings.Contains(key, " ") {
			continue
		}
		if key == "runtime_type" { // the other table
			break
		}
		body.WriteString(line + "\n")
	}
	got, err := decodeTOML([]byte(body.String()))
	if err != nil || got != (Options{}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, opt := range options {
		if !strings.Contains(body.String(), opt.key+" = ") {
			t.Errorf("config.toml.example lacks %s", opt.key)
		}
	}
}
