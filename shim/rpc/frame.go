// Package rpc speaks ttrpc, containerd's protocol between processes of one machine, as far as a shim needs it: calls with one
// request and one answer. The protocol is described in PROTOCOL.md of containerd/ttrpc.
//
// The library itself links protobuf descriptors, gRPC's status and logging: 1.2 to 1.6 ms at each of the three process starts in
// a container's life, and 0.45 MiB in every shim. What is left without them is small. Payloads are bytes here; see wire.
package rpc

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/gosuda/gosudacon/internal/wire"
)

// The types of messages; streams, which no service of a shim has, use a third.
const (
	typeRequest  = 1
	typeResponse = 2
)

// flagRemoteClosed says that the client sends nothing more on the stream, as in every unary call.
const flagRemoteClosed = 1

const (
	headerSize = 10
	// maxMessage is what the protocol allows in one message, without the header.
	maxMessage = 4 << 20
)

// header is in front of each message, in network byte order.
type header struct {
	length uint32
	stream uint32 // odd, and chosen by the client, who never uses one twice on a connection
	kind   uint8
	flags  uint8
}

// readFrame reads one message. After an errTooLong the header is valid and the message has been skipped.
func readFrame(r io.Reader) (header, []byte, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, nil, err
	}
	h := header{
		length: binary.BigEndian.Uint32(b[0:]), stream: binary.BigEndian.Uint32(b[4:]),
		kind: b[8], flags: b[9],
	}
	if h.length > maxMessage {
		if _, err := io.CopyN(io.Discard, r, int64(h.length)); err != nil {
			return h, nil, err
		}
		return h, nil, errTooLong(int(h.length))
	}
	message := make([]byte, h.length)
	if _, err := io.ReadFull(r, message); err != nil {
		return h, nil, err
	}
	return h, message, nil
}

// writeFrame writes one message with one call of Write.
func writeFrame(w io.Writer, stream uint32, kind, flags uint8, message []byte) error {
	b := make([]byte, headerSize, headerSize+len(message))
	binary.BigEndian.PutUint32(b[0:], uint32(len(message)))
	binary.BigEndian.PutUint32(b[4:], stream)
	b[8], b[9] = kind, flags
	_, err := w.Write(append(b, message...))
	return err
}

func errTooLong(length int) error {
	return &Error{ResourceExhausted, fmt.Sprintf("message length %d exceeds the maximum message size of %d", length, maxMessage)}
}

// request is the ttrpc.Request message, but for the metadata, which no method of ours looks at.
type request struct {
	service, method string
	payload         []byte
	timeout         int64 // ns, 0 for none
}

func decodeRequest(b []byte) (request, error) {
	var r request
	for f, err := range wire.Fields(b) {
		if err != nil {
			return r, err
		}
		switch f.Num {
		case 1:
			r.service = f.String()
		case 2:
			r.method = f.String()
		case 3:
			r.payload = f.Bytes
		case 4:
			r.timeout = int64(f.Varint)
		}
	}
	return r, nil
}

func (r request) encode(metadata [][2]string) []byte {
	b := wire.AppendString(make([]byte, 0, 256+len(r.payload)), 1, r.service)
	b = wire.AppendString(b, 2, r.method)
	b = wire.AppendMessage(b, 3, r.payload)
	b = wire.AppendVarint(b, 4, uint64(r.timeout))
	for _, m := range metadata {
		b = wire.AppendMessage(b, 5, wire.Encode(m[0], m[1]))
	}
	return b
}

// encodeResponse encodes the ttrpc.Response message.
func encodeResponse(payload []byte, failed *Error) []byte {
	if failed != nil {
		return wire.AppendMessage(nil, 1, wire.Encode(uint32(failed.Code), failed.Message))
	}
	return wire.AppendMessage(make([]byte, 0, 16+len(payload)), 2, payload)
}

// decodeResponse returns the payload, or the *Error that the server answered.
func decodeResponse(b []byte) ([]byte, error) {
	var payload []byte
	for f, err := range wire.Fields(b) {
		if err != nil {
			return nil, err
		}
		switch f.Num {
		case 1:
			var code uint32
			var e Error
			if err := wire.Decode(f.Bytes, &code, &e.Message); err != nil {
				return nil, err
			}
			if e.Code = Code(code); e.Code != OK {
				return nil, &e
			}
		case 2:
			payload = f.Bytes
		}
	}
	return payload, nil
}
