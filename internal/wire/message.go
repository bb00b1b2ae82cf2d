package wire

import (
	"fmt"
	"time"
)

// Decoder is a message; a repeated one is decoded once for each time that it is there.
type Decoder interface {
	Decode(message []byte) error
}

// Decode reads the fields 1, 2, 3, ... of a message into what the pointers point to: *string, *uint32, *bool, *[]string or a
// Decoder. Fields beyond them are left out. The error is ErrMalformed.
func Decode(message []byte, fields ...any) error {
	for f, err := range Fields(message) {
		if err != nil {
			return err
		}
		if f.Num > len(fields) {
			continue
		}
		switch p := fields[f.Num-1].(type) {
		case *string:
			*p = f.String()
		case *uint32:
			*p = uint32(f.Varint)
		case *bool:
			*p = f.Bool()
		case *[]string:
			*p = append(*p, f.String())
		case Decoder:
			if err := p.Decode(f.Bytes); err != nil {
				return err
			}
		default:
			panic(fmt.Sprintf("field %d is a %T", f.Num, p))
		}
	}
	return nil
}

// Encode writes a message with the fields 1, 2, 3, ...: string, uint32, bool, []string, time.Time (as
// google.protobuf.Timestamp) or *Any. Like proto3 it leaves out what is zero, but a time, which is never missing in containerd.
func Encode(fields ...any) []byte {
	b := make([]byte, 0, 64)
	for i, field := range fields {
		num := i + 1
		switch v := field.(type) {
		case string:
			b = AppendString(b, num, v)
		case uint32:
			b = AppendVarint(b, num, uint64(v))
		case bool:
			if v {
				b = AppendVarint(b, num, 1)
			}
		case []string:
			for _, s := range v {
				b = AppendMessage(b, num, []byte(s)) // a repeated string keeps its empty ones
			}
		case time.Time:
			b = AppendMessage(b, num, Time(v))
		case *Any:
			if v != nil {
				b = AppendMessage(b, num, v.Encode())
			}
		default:
			panic(fmt.Sprintf("field %d is a %T", num, v))
		}
	}
	return b
}

// Time encodes a google.protobuf.Timestamp.
func Time(t time.Time) []byte {
	b := AppendVarint(nil, 1, uint64(t.Unix())) // negative for the zero time, as everywhere in containerd
	return AppendVarint(b, 2, uint64(t.Nanosecond()))
}
