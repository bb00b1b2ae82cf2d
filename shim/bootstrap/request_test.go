package bootstrap

import (
	"encoding/json"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gosuda/gosudacon/internal/wire"
)

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anyOf(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var testFlags = Flags{Namespace: "ns", ID: "id", Address: "/flag.sock"}

func TestDecodeRequestParams(t *testing.T) {
	dir := "/run/s"
	p := &bootapi.BootstrapParams{
		InstanceID: "id", Namespace: "ns", LogLevel: bootapi.LogLevel_LOG_LEVEL_WARN, ContainerdVersion: "2.4.2",
		ContainerdTtrpcAddress: "/c.ttrpc", ContainerdGrpcAddress: "/c.sock", ContainerdBinary: "/c", SocketDir: &dir,
	}
	// Unknown extensions, before and after the options, are ignored.
	for _, m := range []proto.Message{timestamppb.Now(), &runc.Options{Root: "/r"}, &types.MountCapabilities{}} {
		if err := p.AddExtension(m); err != nil {
			t.Fatal(err)
		}
	}
	got, err := decodeRequest(testFlags, marshal(t, p), legacyEnvironment{ttrpcAddress: "/env.ttrpc", hasShimVersions: true})
	if err != nil {
		t.Fatal(err)
	}
	options := got.options
	got.options = wire.Any{}
	if want := (request{protocol: protocolParams, ttrpcAddress: "/c.ttrpc", address: "/c.sock", socketDir: dir}); !equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if want := anyOf(t, &runc.Options{Root: "/r"}); options.TypeURL != want.TypeUrl || string(options.Value) != string(want.Value) {
		t.Errorf("options: got %+v", options)
	}

	for level, want := range map[bootapi.LogLevel]bool{-8: true, -5: true, -4: true, -3: false, 0: false, 12: false} {
		p.LogLevel = level
		if got, err := decodeRequest(testFlags, marshal(t, p), legacyEnvironment{}); err != nil || got.debug != want {
			t.Errorf("log level %d: debug %t, %v", level, got.debug, err)
		}
	}
}

func equal(a, b request) bool {
	return a.protocol == b.protocol && a.ttrpcAddress == b.ttrpcAddress && a.address == b.address && a.socketDir == b.socketDir && a.debug == b.debug
}

func TestDecodeRequestLegacy(t *testing.T) {
	options := marshal(t, anyOf(t, &runc.Options{SystemdCgroup: true}))
	otherID := marshal(t, &bootapi.BootstrapParams{InstanceID: "other", Namespace: "ns"})
	for _, c := range []struct {
		name     string
		input    []byte
		versions bool
		protocol protocol
		typeURL  string
	}{
		{"1.6 without options", nil, false, protocolAddress, ""},
		{"1.6", options, false, protocolAddress, "type.googleapis.com/containerd.runc.v1.Options"},
		{"1.7 to 2.2 without options", nil, true, protocolJSON, ""},
		{"1.7 to 2.2", options, true, protocolJSON, "type.googleapis.com/containerd.runc.v1.Options"},
		// Decodes as params, but is an Any of type "other" as far as anybody can tell.
		{"params of somebody else", otherID, true, protocolJSON, "other"},
	} {
		got, err := decodeRequest(testFlags, c.input, legacyEnvironment{ttrpcAddress: "/env.ttrpc", hasShimVersions: c.versions})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if want := (request{protocol: c.protocol, ttrpcAddress: "/env.ttrpc", address: "/flag.sock"}); !equal(got, want) || got.options.TypeURL != c.typeURL {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
	if _, err := decodeRequest(testFlags, []byte("hello"), legacyEnvironment{}); err == nil {
		t.Error("a text passes")
	}
}

func TestReply(t *testing.T) {
	text, err := reply(protocolParams, "unix:///s/x")
	if err != nil {
		t.Fatal(err)
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if result.Version != 3 || result.Address != "unix:///s/x" || result.Protocol != "ttrpc" {
		t.Errorf("got %v", &result)
	}
	if found, err := result.FindExtension(&types.MountCapabilities{}); !found || err != nil {
		t.Errorf("MountCapabilities: %t, %v", found, err)
	}

	text, err = reply(protocolJSON, "unix:///s/x")
	if err != nil {
		t.Fatal(err)
	}
	// containerd 2.3 and later tries protobuf first: the text must not pass for it.
	if err := proto.Unmarshal(text, &result); err == nil {
		t.Error("JSON passes as BootstrapResult")
	}
	var legacy struct {
		Version           int
		Address, Protocol string
	}
	if err := json.Unmarshal(text, &legacy); err != nil || legacy.Version != 2 || legacy.Address != "unix:///s/x" || legacy.Protocol != "ttrpc" {
		t.Errorf("JSON: got %+v, %v", legacy, err)
	}

	if text, err = reply(protocolAddress, "unix:///s/x"); err != nil || string(text) != "unix:///s/x" {
		t.Errorf("address: got %q, %v", text, err)
	}
}
