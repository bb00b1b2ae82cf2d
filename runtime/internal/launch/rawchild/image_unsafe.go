package rawchild

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// image is all that the child needs of its parent's memory, beside the code: a mapping of its own. So the rest stays with the
// parent (see own).
//
// From the start: instructions, branches, data, and, in pages of their own, the child's stack and the machine.
type image struct {
	memory []byte
	*machine
}

// section is a loaded program: addresses are absolute.
type section struct {
	ops      []Op
	branches []Branch
	data     unsafe.Pointer // the program's Data
}

// machine is what the child works with: everything that it touches is reachable from here.
type machine struct {
	first  section
	rest   *section // where OpContinue leads
	regs   [Registers]uintptr
	back   int   // where OpReturn leads
	step   int32 // of the last OpCall
	report [ReportSize / 4]uint32
	pidfd  int32 // where the kernel writes it
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

// sizes returns how many bytes a section's instructions, branches and data take.
func (p *Program) sizes() (ops, branches, data int) {
	if !p.SharedData {
		data = len(p.Data)
	}
	return len(p.Ops) * int(unsafe.Sizeof(Op{})), len(p.Branches) * int(unsafe.Sizeof(Branch{})), data
}

// load puts a valid program into an image, which the caller unmaps.
func load(p *Program) (*image, error) {
	ops, branches, data := p.sizes()
	machineSize := roundUp(int(unsafe.Sizeof(machine{})), 16)
	size := roundUp(ops+branches+data, pageSize) + roundUp(stackSize+aboveStack+machineSize, pageSize)
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map the program of a child: %w", err)
	}
	m := (*machine)(unsafe.Pointer(&memory[size-machineSize]))
	m.pidfd = -1
	m.first.load(p, memory)
	if p.Rest != nil {
		m.rest = p.Rest.section()
	}
	for i, v := range p.Init {
		m.regs[i] = uintptr(v)
	}
	return &image{memory, m}, nil
}

// load makes s the program, which it puts into memory.
func (s *section) load(p *Program, memory []byte) {
	ops, branches, private := p.sizes()
	at := func(i int) unsafe.Pointer { return unsafe.Pointer(&memory[i]) }
	s.ops = unsafe.Slice((*Op)(at(0)), len(p.Ops))
	copy(s.ops, p.Ops)
	if branches > 0 {
		s.branches = unsafe.Slice((*Branch)(at(ops)), len(p.Branches))
		copy(s.branches, p.Branches)
	}
	data := p.Data
	if private > 0 {
		data = memory[ops+branches : ops+branches+private]
		copy(data, p.Data)
	}
	if len(data) > 0 {
		s.data = unsafe.Pointer(&data[0])
	}
	p.relocate(data)
}

// relocate puts the addresses into the program's data, at the place where it is to stay.
func (p *Program) relocate(data []byte) {
	for _, r := range p.Relocs {
		binary.NativeEndian.PutUint64(data[r.At:], uint64(uintptr(unsafe.Pointer(&data[0])))+uint64(r.Target))
	}
}

// Room is memory that a process has in common with the child that it starts, and with nobody else: for the rest of a program that the
// child has begun already. It lies at the same address in both.
type Room struct{ memory []byte }

// How much of addresses a room takes, in bytes: for its section, and for what that consists of. Memory it takes as it is filled, for the
// program of a usual container 50 KiB.
const (
	roomOps      = pageSize
	roomBranches = roomOps + 2<<20
	roomData     = roomBranches + 1<<20
	roomSize     = roomData + 1<<20
)

// ErrRoom says that a program is too large to be the rest of another.
var ErrRoom = errors.New("the program is too large to be the rest of another")

// NewRoom makes an empty room. The caller closes it.
func NewRoom() (*Room, error) {
	memory, err := unix.Mmap(-1, 0, roomSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map the rest of the program of a child: %w", err)
	}
	return &Room{memory}, nil
}

// Program returns an empty program that is made in the room, with memory at hand for as many instructions, branches and bytes of data.
func (r *Room) Program(ops, branches, data int) Program {
	r.populate(0, roomOps+ops*int(unsafe.Sizeof(Op{})))
	r.populate(roomBranches, branches*int(unsafe.Sizeof(Branch{})))
	r.populate(roomData, data)
	return Program{
		Ops:      unsafe.Slice((*Op)(r.at(roomOps)), (roomBranches-roomOps)/int(unsafe.Sizeof(Op{})))[:0],
		Branches: unsafe.Slice((*Branch)(r.at(roomBranches)), (roomData-roomBranches)/int(unsafe.Sizeof(Branch{})))[:0],
		Data:     r.memory[roomData:roomData:roomSize],
	}
}

func (r *Room) at(i int) unsafe.Pointer { return unsafe.Pointer(&r.memory[i]) }

// populate is faster than the faults that it saves. Without it (Linux 5.14) there are those.
func (r *Room) populate(from, size int) {
	unix.Madvise(r.memory[from:roundUp(from+size, pageSize)], unix.MADV_POPULATE_WRITE)
}

// Fill makes p, which the room's Program has become, the rest; ErrRoom says that it has outgrown the room. The child must not come to
// OpContinue before it has heard that Fill has returned.
func (r *Room) Fill(p *Program) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if unsafe.Pointer(&p.Ops[0]) != r.at(roomOps) || unsafe.Pointer(unsafe.SliceData(p.Branches)) != r.at(roomBranches) ||
		unsafe.Pointer(unsafe.SliceData(p.Data)) != r.at(roomData) {
		return ErrRoom
	}
	*r.section() = section{ops: p.Ops, branches: p.Branches, data: r.at(roomData)}
	p.relocate(p.Data)
	return nil
}

// Close gives the caller's side up; the child keeps its own until it executes something.
func (r *Room) Close() { unix.Munmap(r.memory) }

// section is the first thing in the room.
func (r *Room) section() *section { return (*section)(r.at(0)) }

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// stack returns where the child's stack is, as clone3(2) wants to know it, and its thread pointer.
func (i *image) stack() (lowest, size, thread uint64) {
	top := uint64(uintptr(unsafe.Pointer(i.machine))) - aboveStack
	return top - stackSize, stackSize, top + aboveStack - 16
}

func (i *image) unmap() { unix.Munmap(i.memory) }
