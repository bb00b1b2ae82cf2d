// Package wire reads and writes the few protobuf messages that a shim exchanges with containerd, and the engine with criu,
// field by field.
//
// The verbs live for two milliseconds. Generated messages cost them half of that: protobuf-go parses the descriptors of all
// linked messages at start, and builds the coders of a message type by reflection at its first use.
package wire

import (
	"encoding/binary"
	"errors"
	"iter"
	"strings"
)

// ErrMalformed is the error of bytes that are not a protobuf message.
var ErrMalformed = errors.New("malformed protobuf message")

// The wire types of the protobuf encoding.
const (
	typeVarint = 0
	typeI64    = 1
	typeLen    = 2
	typeI32    = 5
)

// Field is one field of a message. Bytes is nil unless the field is length-delimited (string, bytes, message).
type Field struct {
	Num    int
	Varint uint64
	Bytes  []byte // points into the message
}

// String returns the field's bytes as a string.
func (f Field) String() string { return string(f.Bytes) }

// Bool returns the field's value as a bool.
func (f Field) Bool() bool { return f.Varint != 0 }

// Fields iterates over the fields of a message in the order of the bytes. It ends after the first error, which is always
// ErrMalformed. Groups, which no message of containerd uses, are malformed too: that is what tells a text from a message.
func Fields(message []byte) iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) {
		for len(message) > 0 {
			f, n := next(message)
			if n == 0 {
				yield(Field{}, ErrMalformed)
				return
			}
			if !yield(f, nil) {
				return
			}
			message = message[n:]
		}
	}
}

// next decodes the first field of b, which is not empty, and returns its length; 0 when it is malformed.
func next(b []byte) (Field, int) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return Field{}, 0
	}
	f := Field{Num: int(tag >> 3)}
	rest := b[n:]
	switch tag & 7 {
	case typeVarint:
		v, m := binary.Uvarint(rest)
		if m <= 0 {
			return Field{}, 0
		}
		f.Varint = v
		return f, n + m
	case typeLen:
		size, m := binary.Uvarint(rest)
		if m <= 0 || size > uint64(len(rest)-m) {
			return Field{}, 0
		}
		f.Bytes = rest[m : m+int(size) : m+int(size)]
		return f, n + m + int(size)
	case typeI64:
		if len(rest) < 8 {
			return Field{}, 0
		}
		f.Varint = binary.LittleEndian.Uint64(rest)
		return f, n + 8
	case typeI32:
		if len(rest) < 4 {
			return Field{}, 0
		}
		f.Varint = uint64(binary.LittleEndian.Uint32(rest))
		return f, n + 4
	}
	return Field{}, 0
}

// AppendVarint appends an integer, enum or bool field. Like proto3 it leaves zero out.
func AppendVarint(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return AppendInteger(b, num, v)
}

// AppendInteger is AppendVarint that leaves nothing out: proto2 tells zero from nothing.
func AppendInteger(b []byte, num int, v uint64) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|typeVarint)
	return binary.AppendUvarint(b, v)
}

// AppendString appends a string field. Like proto3 it leaves "" out.
func AppendString(b []byte, num int, s string) []byte {
	if s == "" {
		return b
	}
	b = binary.AppendUvarint(b, uint64(num)<<3|typeLen)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendMessage appends a message field, also when the message is empty.
func AppendMessage(b []byte, num int, message []byte) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|typeLen)
	b = binary.AppendUvarint(b, uint64(len(message)))
	return append(b, message...)
}

// Any is google.protobuf.Any.
type Any struct {
	TypeURL string
	Value   []byte
}

// DecodeAny decodes an Any; no bytes are the zero Any.
func DecodeAny(message []byte) (Any, error) {
	var a Any
	err := a.Decode(message)
	return a, err
}

// Decode reads the message. Value points into it.
func (a *Any) Decode(message []byte) error {
	for f, err := range Fields(message) {
		if err != nil {
			return err
		}
		switch f.Num {
		case 1:
			a.TypeURL = f.String()
		case 2:
			a.Value = f.Bytes
		}
	}
	return nil
}

// Encode is the inverse of Decode.
func (a Any) Encode() []byte {
	b := AppendString(nil, 1, a.TypeURL)
	if len(a.Value) == 0 {
		return b
	}
	return AppendMessage(b, 2, a.Value)
}

// Name returns the full name of the message type: the last part of the type URL, whatever stands before it.
func (a Any) Name() string {
	return a.TypeURL[strings.LastIndexByte(a.TypeURL, '/')+1:]
}
