package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// program returns an ELF file with segments of the given sizes, each at a huge page of its own; the last is written to.
func program(sizes ...uint64) []byte {
	header := elf.Header64{Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: uint16(len(sizes)), Shoff: 1 << 30, Shnum: 3, Shstrndx: 2}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, header)
	at := uint64(0)
	for i, size := range sizes {
		s := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Off: at, Vaddr: 2*hugePage + at, Filesz: size, Memsz: size}
		if i == len(sizes)-1 {
			s.Flags |= uint32(elf.PF_W)
			s.Memsz *= 2
		}
		binary.Write(&b, binary.LittleEndian, s)
		at += (size + hugePage - 1) / hugePage * hugePage
	}
	return append(b.Bytes(), make([]byte, int(at)-b.Len())...)
}

// TestPad: segments that are only read become whole huge pages, the one that is written to stays, and the file ends with it.
func TestPad(t *testing.T) {
	out, err := pad(program(hugePage+5, 7, 100))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]uint64{{2 * hugePage, 2 * hugePage}, {hugePage, hugePage}, {100, 200}}
	for i, p := range f.Progs {
		if p.Filesz != want[i][0] || p.Memsz != want[i][1] {
			t.Errorf("segment %d has %d bytes in the file and %d in memory, want %d", i, p.Filesz, p.Memsz, want[i])
		}
	}
	if len(out) != 3*hugePage+100 || len(f.Sections) != 0 {
		t.Errorf("%d bytes, %d sections", len(out), len(f.Sections))
	}
}

// TestPadRefuses: what is no such program, or was linked otherwise, as this test is.
func TestPadRefuses(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{"is no": []byte("#!/bin/sh"), "link with -R 0x200000": self, "before its last segment": program(1, 1)[:hugePage]} {
		if _, err := pad(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
