package bootstrap

import (
	"testing"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// FuzzRequest: whatever stands on the standard input of start, it is a request of one of containerd's protocols or refused.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x0a\x02id\x12\x02ns\x2a\x05/t.sk\x32\x05/g.sk\x4a\x02/s"), true)
	f.Add([]byte("\x0a\x1acontainerd.runc.v1.Options\x12\x02\x08\x01"), false)
	f.Add([]byte(nil), true)
	f.Fuzz(func(t *testing.T, input []byte, versions bool) {
		flags := Flags{Namespace: "ns", ID: "id", Address: "/a.sock"}
		r, err := decodeRequest(flags, input, legacyEnvironment{ttrpcAddress: "/a.ttrpc", hasShimVersions: versions})
		if err != nil {
			return
		}
		if r.protocol != protocolParams && (r.address != flags.Address || r.ttrpcAddress != "/a.ttrpc" || r.socketDir != "") {
			t.Fatalf("an old containerd does not say where it is: %+v", r)
		}
		if _, err := reply(r.protocol, "unix:///s"); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzGroup: the annotations of config.json decide the same as a decoder of all of it would.
func FuzzGroup(f *testing.F) {
	f.Add([]byte(`{"annotations":{"io.kubernetes.cri.sandbox-id":"s"}}`))
	f.Add([]byte(`{"annotations":{"io.containerd.runc.v2.\u0067roup":"g"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var spec struct {
			Annotations map[string]string `json:"annotations"`
		}
		if engine.Decode(text, &spec) != nil {
			return
		}
		want := "id"
		for i := len(groupAnnotations) - 1; i >= 0; i-- {
			if g, ok := spec.Annotations[groupAnnotations[i]]; ok {
				want = g
			}
		}
		if group, err := decodeGroup(text, "id"); err != nil || group != want {
			t.Fatalf("got %q, %v; want %q", group, err, want)
		}
	})
}
