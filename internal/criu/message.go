package criu

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/wire"
)

// Kind is a criu_req_type.
type Kind uint8

// The requests.
const (
	Dump         Kind = 1
	Restore      Kind = 2
	notify       Kind = 6 // criu's own
	checkFeature Kind = 9
	PreDump      Kind = 13 // SINGLE_PRE_DUMP: of the memory alone, and no further request on the connection
)

func (k Kind) String() string {
	switch k {
	case Dump:
		return "dump"
	case Restore:
		return "restore"
	case notify:
		return "notify"
	case checkFeature:
		return "feature check"
	case PreDump:
		return "pre-dump"
	}
	return fmt.Sprintf("request %d", uint8(k))
}

// EncodeRequest writes a criu_req.
func EncodeRequest(k Kind, o *Options) []byte {
	b := wire.AppendVarint(nil, 1, uint64(k))
	if o != nil {
		b = wire.AppendMessage(b, 2, o.encode())
	}
	return b
}

// EncodeAnswer writes the criu_req that answers a notification.
func EncodeAnswer(ok bool) []byte {
	b := wire.AppendVarint(nil, 1, uint64(notify))
	success := uint64(0)
	if ok {
		success = 1
	}
	return wire.AppendInteger(b, 3, success)
}

// EncodeFeatures writes the criu_req that asks for features.
func EncodeFeatures(f Features) []byte {
	return wire.AppendMessage(wire.AppendVarint(nil, 1, uint64(checkFeature)), 5, wire.Encode(f.TrackMem, f.LazyPages))
}

// Features are what not every kernel lets criu do; criu_features.
type Features struct {
	TrackMem  bool // tell which pages were written to since (CONFIG_MEM_SOFT_DIRTY)
	LazyPages bool // restore memory when it is first used (userfaultfd(2))
}

// Response is a criu_resp.
type Response struct {
	Kind     Kind
	Success  bool
	Script   string     // of a notification
	Pid      int        // of a notification
	Errno    unix.Errno // 0 for none
	Message  string     // the first error of criu's log
	Features Features
}

// Decode reads the message; fields that nobody asks for are left out.
func (r *Response) Decode(b []byte) error {
	for f, err := range wire.Fields(b) {
		if err != nil {
			return err
		}
		switch f.Num {
		case 1:
			r.Kind = Kind(f.Varint)
		case 2:
			r.Success = f.Bool()
		case 5:
			var pid uint32
			err = wire.Decode(f.Bytes, &r.Script, &pid)
			r.Pid = int(int32(pid))
		case 7:
			r.Errno = unix.Errno(uint32(f.Varint))
		case 8:
			err = wire.Decode(f.Bytes, &r.Features.TrackMem, &r.Features.LazyPages)
		case 9:
			r.Message = f.String()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
