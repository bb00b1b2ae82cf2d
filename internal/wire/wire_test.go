package wire

import (
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestFieldsReadsWhatProtobufWrites(t *testing.T) {
	dir := "/run/s"
	params := &bootapi.BootstrapParams{InstanceID: "id", LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG, SocketDir: &dir}
	message, err := proto.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]Field{}
	for f, err := range Fields(message) {
		if err != nil {
			t.Fatal(err)
		}
		got[f.Num] = f
	}
	if got[1].String() != "id" || int32(got[3].Varint) != -4 || got[9].String() != dir || len(got) != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestFieldsRefusesText(t *testing.T) {
	for _, text := range []string{`{"version":2}`, "unix:///run/containerd/s/abc", "/run/containerd/s/abc", "\n", "\x0a\x05ab"} {
		var last error
		for _, err := range Fields([]byte(text)) {
			last = err
		}
		if last != ErrMalformed {
			t.Errorf("%q: got %v", text, last)
		}
	}
}

func TestAnyIsProtobufs(t *testing.T) {
	want, err := anypb.New(&options.Options{Root: "/r", IoUid: 1 << 31})
	if err != nil {
		t.Fatal(err)
	}
	var back anypb.Any
	if err := proto.Unmarshal(Any{TypeURL: want.TypeUrl, Value: want.Value}.Encode(), &back); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, &back) {
		t.Errorf("got %v, want %v", &back, want)
	}
	message, _ := proto.Marshal(want)
	a, err := DecodeAny(message)
	if err != nil || a.TypeURL != want.TypeUrl || string(a.Value) != string(want.Value) || a.Name() != "containerd.runc.v1.Options" {
		t.Errorf("got %+v, %v", a, err)
	}
	if a, err := DecodeAny(nil); err != nil || a.TypeURL != "" || a.Name() != "" {
		t.Errorf("empty: got %+v, %v", a, err)
	}
}

// FuzzFields checks that protobuf-go accepts every message that Fields accepts (the other way round groups differ), and
// that no input makes it panic or run for ever.
func FuzzFields(f *testing.F) {
	f.Add([]byte("\x0a\x02id\x12\x02ns\x18\x80\x01"))
	f.Add([]byte{0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, message []byte) {
		for f, err := range Fields(message) {
			if err != nil {
				return
			}
			if f.Num < 1 || len(f.Bytes) > len(message) {
				t.Fatalf("field %+v", f)
			}
		}
		if err := proto.Unmarshal(message, &anypb.Any{}); err != nil && !hasTypeURL(message) {
			t.Fatalf("protobuf refuses %x: %v", message, err)
		}
	})
}

// hasTypeURL reports whether message has an Any.type_url, which protobuf-go also refuses for what Fields does not look at:
// another wire type, or a text that is not UTF-8.
func hasTypeURL(message []byte) bool {
	for f := range Fields(message) {
		if f.Num == 1 {
			return true
		}
	}
	return false
}

// FuzzDecode: a message of containerd's is what protobuf-go reads in it, or malformed.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x0a\x02id\x12\x02ns\x1a\x01a\x1a\x01b\x22\x03\x0a\x01u"))
	f.Add([]byte("\x08\x05\x12\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		var text string
		var number uint32
		var yes bool
		var list []string
		var any Any
		if Decode(message, &text, &number, &yes, &list, &any) != nil {
			return
		}
		if len(text) > len(message) || len(list) > len(message) || len(any.Value) > len(message) {
			t.Fatalf("more than there is: %q %q %q", text, list, any.Value)
		}
		var text2 string
		var number2 uint32
		var yes2 bool
		var list2 []string
		var any2 Any
		if err := Decode(Encode(text, number, yes, list, &any), &text2, &number2, &yes2, &list2, &any2); err != nil || text != text2 || number != number2 ||
			yes != yes2 || len(list) != len(list2) || any.TypeURL != any2.TypeURL || string(any.Value) != string(any2.Value) {
			t.Fatalf("%v: %q %d %t %q %+v, then %q %d %t %q %+v", err, text, number, yes, list, any, text2, number2, yes2, list2, any2)
		}
	})
}
