package rawchild

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What this process has written its child has no use for: variables, the heap, and the tables of Go's runtime, some 150 pages. They stay with
// the parent (MADV_DONTFORK): neither their page tables are copied nor, for what the parent writes next, the pages one by one, which together
// is half of what a fork costs a Go process; and what the parent has read, of other containers too, is not in a container's first
// process.

// addresses are a range of memory, which need not all be mapped.
type addresses struct{ start, size uintptr }

// of returns where memory lies.
func of(memory []byte) addresses {
	return addresses{uintptr(unsafe.Pointer(unsafe.SliceData(memory))), uintptr(len(memory))}
}

// advise is madvise(2). What cannot be changed is the kernel's own, and left; a child that has too much is as good.
func (a addresses) advise(advice uintptr) {
	if a.size > 0 {
		unix.RawSyscall(unix.SYS_MADVISE, a.start, a.size, advice)
	}
}

// own is where all lies that this process writes to but its first thread's stack: from the program's variables up to the vdso(7), above which
// the kernel has mapped nothing that was asked for. It is empty where the kernel has not told (getauxval(3)).
var own = sync.OnceValue(func() addresses {
	const phdr, phnum, random, vdso = 3, 5, 25, 33 // AT_*
	aux, err := unix.Auxv()
	if err != nil {
		return addresses{}
	}
	var at [vdso + 1]uintptr
	for _, a := range aux {
		if a[0] < uintptr(len(at)) {
			at[a[0]] = a[1]
		}
	}
	// The stack, where AT_RANDOM's bytes are, has at least this much left for it to grow into (mmap_base in the kernel).
	const stack = 128 << 20
	start, end := variables(at[phdr], int(at[phnum])), at[random]-stack
	if at[vdso] != 0 {
		end = min(end, at[vdso])
	}
	if start == 0 || at[random] < stack || end <= start {
		return addresses{}
	}
	return addresses{start, end - start}
})

// progHeader is Elf64_Phdr, elf(5).
type progHeader struct {
	kind, flags                                            uint32
	offset, address, physical, fileSize, memorySize, align uint64
}

// variables returns the first page of the program's writable segment, from the program's headers in memory; 0 without one.
func variables(headers uintptr, n int) uintptr {
	const load, self, writable = 1, 6, 2 // PT_LOAD, PT_PHDR, PF_W
	if headers == 0 {
		return 0
	}
	var moved uintptr // of a program that may lie anywhere
	for _, h := range unsafe.Slice(*(**progHeader)(unsafe.Pointer(&headers)), n) {
		switch {
		case h.kind == self:
			moved = headers - uintptr(h.address)
		case h.kind == load && h.flags&writable != 0:
			return (moved + uintptr(h.address)) &^ (pageSize - 1)
		}
	}
	return 0
}
