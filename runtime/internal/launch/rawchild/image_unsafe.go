package rawchild

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// image is all that the child needs of its parent's memory, beside the code: a mapping of its own. So the heap stays with the
// parent (see fork): neither copied nor, for what the parent writes next, taken apart page by page, which is half of what a fork
// costs a Go process; and what the runtime has read, of other containers too, is not in a container's first process.
//
// From the start: instructions, branches, data, and, in pages of their own, the child's stack and the machine.
type image struct {
	memory []byte
	*machine
}

// machine is a loaded program: addresses are absolute, and everything the child touches is reachable from here.
type machine struct {
	ops      []Op
	branches []Branch
	data     unsafe.Pointer // the program's Data
	regs     [Registers]uintptr
	back     int   // where OpReturn leads
	step     int32 // of the last OpCall
	report   [ReportSize / 4]uint32
	pidfd    int32 // where the kernel writes it
}

const (
	pageSize = 4096
	// stackSize has room for interpret and a system call below it, which all are marked nosplit: the linker allows a chain of
	// such functions 800 bytes.
	stackSize = 4096
	// aboveStack is between the first address of the stack and the machine: the argument of interpret and, for amd64, the word
	// below the thread pointer, in which Go looks for the current goroutine. The child has none.
	aboveStack = 64
)

// load puts a valid program into an image, which the caller unmaps.
func load(p *Program) (*image, error) {
	ops := len(p.Ops) * int(unsafe.Sizeof(Op{}))
	branches := len(p.Branches) * int(unsafe.Sizeof(Branch{}))
	private := len(p.Data)
	if p.SharedData {
		private = 0
	}
	machineSize := roundUp(int(unsafe.Sizeof(machine{})), 16)
	size := roundUp(ops+branches+private, pageSize) + roundUp(stackSize+aboveStack+machineSize, pageSize)
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map the program of a child: %w", err)
	}
	at := func(i int) unsafe.Pointer { return unsafe.Pointer(&memory[i]) }
	m := (*machine)(at(size - machineSize))
	m.pidfd = -1
	m.ops = unsafe.Slice((*Op)(at(0)), len(p.Ops))
	copy(m.ops, p.Ops)
	if branches > 0 {
		m.branches = unsafe.Slice((*Branch)(at(ops)), len(p.Branches))
		copy(m.branches, p.Branches)
	}
	data := p.Data
	if private > 0 {
		data = memory[ops+branches : ops+branches+private]
		copy(data, p.Data)
	}
	if len(data) > 0 {
		m.data = unsafe.Pointer(&data[0])
	}
	for _, r := range p.Relocs {
		binary.NativeEndian.PutUint64(data[r.At:], uint64(uintptr(m.data))+uint64(r.Target))
	}
	for i, v := range p.Init {
		m.regs[i] = uintptr(v)
	}
	return &image{memory, m}, nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// stack returns where the child's stack is, as clone3(2) wants to know it, and its thread pointer.
func (i *image) stack() (lowest, size, thread uint64) {
	top := uint64(uintptr(unsafe.Pointer(i.machine))) - aboveStack
	return top - stackSize, stackSize, top + aboveStack - 16
}

func (i *image) unmap() { unix.Munmap(i.memory) }
