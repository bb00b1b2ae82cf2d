package sandbox

import (
	"bytes"
	"encoding/binary"
)

// pause is the program of the first process in a pod's pid namespace, whole: it leaves what becomes its child to the kernel to reap,
// and sleeps. It needs no memory of its own but a page for its code and one for its stack.
func pause() []byte {
	const (
		base       = 0x400000
		headers    = 64 + 56 // Ehdr, one Phdr
		readable   = 4       // PF_R
		executable = 1       // PF_X
		align      = 1 << 16 // the largest page size of all architectures
	)
	size := uint64(headers + len(pauseCode))
	var b bytes.Buffer
	for _, field := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1},     // 64 bits, little endian, version 1
		uint16(2), uint16(pauseMachine), uint32(1), // executable
		uint64(base + headers), uint64(64), uint64(0), // entry, program headers, section headers
		uint32(0), uint16(64), uint16(56), uint16(1), // flags, sizes of the headers, how many
		uint16(0), uint16(0), uint16(0), // no sections
		uint32(1), uint32(readable | executable), uint64(0), // PT_LOAD of the whole file
		uint64(base), uint64(base), size, size, uint64(align), // where
	} {
		binary.Write(&b, binary.LittleEndian, field) // into memory, of fixed sizes
	}
	b.Write(pauseCode)
	return b.Bytes()
}
