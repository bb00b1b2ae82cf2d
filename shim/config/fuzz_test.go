package config

import (
	"testing"

	runc "github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
)

// FuzzDecode: options are read as protobuf-go reads them, or refused, whatever type they claim to be.
func FuzzDecode(f *testing.F) {
	message, err := proto.Marshal(allMessage)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("containerd.runc.v1.Options", message)
	f.Add("", []byte(nil))
	f.Add("runtimeoptions.v1.Options", []byte("\x0a\x01x\x1a\x0eRoot = \"/a/b\"\n"))
	f.Add("x.runtimeoptions.v1.Options", []byte("\x12\x09/dev/zero"))
	f.Add("containerd.runc.v1.Options", []byte("\x20\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, typeURL string, value []byte) {
		o, err := Decode(typeURL, value)
		if err != nil {
			return
		}
		if !Known(typeURL) && len(value) > 0 {
			t.Fatalf("accepted a %q", typeURL)
		}
		if o.Root != "" && o.Root[0] != '/' {
			t.Fatalf("root %q", o.Root)
		}
		var want runc.Options
		if typeURL != runcOptions || proto.Unmarshal(value, &want) != nil {
			return // we do not look at what is not used, such as texts that are not UTF-8
		}
		got := &runc.Options{NoPivotRoot: o.NoPivotRoot, NoNewKeyring: o.NoNewKeyring, ShimCgroup: o.ShimCgroup, IoUid: o.IoUID, IoGid: o.IoGID,
			BinaryName: o.BinaryName, Root: o.Root, SystemdCgroup: o.SystemdCgroup, CriuImagePath: o.CriuImagePath, CriuWorkPath: o.CriuWorkPath}
		want.ProtoReflect().SetUnknown(nil)
		want.TaskApiAddress, want.TaskApiVersion = "", 0
		if !proto.Equal(got, &want) {
			t.Fatalf("got %v, want %v", got, &want)
		}
	})
}

// FuzzTOML: every TOML is options or an error.
func FuzzTOML(f *testing.F) {
	f.Add([]byte(allTOML))
	f.Add([]byte("IoUid = -1"))
	f.Add([]byte("[Root]\nRoot = 1"))
	f.Add([]byte("root = \"relative\"\nROOT = \"/a\""))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := decodeTOML(body)
		if err != nil && o != (Options{}) {
			t.Fatalf("%+v with %v", o, err)
		}
		again, errAgain := decodeTOML(body)
		if o != again || (err == nil) != (errAgain == nil) {
			t.Fatalf("%+v, %v; then %+v, %v", o, err, again, errAgain)
		}
	})
}
