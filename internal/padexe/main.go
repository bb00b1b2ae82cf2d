// Command padexe makes a linked program fit for huge pages: padexe LINKED OUT.
//
// A program that is linked with -R 0x200000 has each of its segments begin where a huge page of 2 MiB may. The kernel maps one, and has one
// page fault instead of dozens, where a segment also extends over the whole page, and where the page cache holds the file so: for a file
// system with large folios (ext4 since Linux 6.16, xfs, btrfs), where the file was written at once. So this lets the segments that are
// only read extend into the padding behind them. It leaves out what comes behind the last segment, which nothing needs to run: the linker
// pads before that too.
package main

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
)

// hugePage is the size of one, in bytes, on amd64, and on arm64 with the usual pages of 4 KiB.
const hugePage = 2 << 20

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: padexe LINKED OUT")
		os.Exit(2)
	}
	data, err := os.ReadFile(os.Args[1])
	if err == nil {
		data, err = pad(data)
	}
	if err == nil {
		err = os.WriteFile(os.Args[2], data, 0o755)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "padexe: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// pad returns the program with its headers changed; it uses data.
func pad(data []byte) ([]byte, error) {
	if len(data) < binary.Size(elf.Header64{}) || string(data[:4]) != elf.ELFMAG || elf.Class(data[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(data[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("is no 64-bit little-endian ELF file")
	}
	w := binary.LittleEndian
	var header elf.Header64
	if _, err := binary.Decode(data, w, &header); err != nil {
		return nil, err
	}
	entry := func(i int) []byte { return data[header.Phoff+uint64(i)*uint64(header.Phentsize):][:header.Phentsize] }
	segments := make([]elf.Prog64, header.Phnum)
	for i := range segments {
		if _, err := binary.Decode(entry(i), w, &segments[i]); err != nil {
			return nil, err
		}
	}
	end := uint64(0)
	for i, s := range segments {
		if elf.ProgType(s.Type) != elf.PT_LOAD {
			continue
		}
		if s.Off%hugePage != 0 || s.Vaddr%hugePage != 0 {
			return nil, fmt.Errorf("segment %d begins at %#x in the file and %#x in memory: link with -R %#x", i, s.Off, s.Vaddr, hugePage)
		}
		if elf.ProgFlag(s.Flags)&elf.PF_W == 0 {
			whole := (s.Filesz + hugePage - 1) / hugePage * hugePage
			for _, next := range segments {
				if elf.ProgType(next.Type) == elf.PT_LOAD && next.Vaddr > s.Vaddr && next.Vaddr < s.Vaddr+whole {
					return nil, fmt.Errorf("segment %d has no room to extend to %#x: link with -R %#x", i, s.Vaddr+whole, hugePage)
				}
			}
			s.Filesz, s.Memsz = whole, whole
			if _, err := binary.Encode(entry(i), w, s); err != nil {
				return nil, err
			}
		}
		end = max(end, s.Off+s.Filesz)
	}
	if end > uint64(len(data)) {
		return nil, fmt.Errorf("ends at %#x, before its last segment does", len(data))
	}
	header.Shoff, header.Shnum, header.Shstrndx = 0, 0, 0
	if _, err := binary.Encode(data, w, header); err != nil {
		return nil, err
	}
	return data[:end], nil
}
