package sys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpfAttr is union bpf_attr as 64-bit words, of which 32-bit fields share one, the first in the low half (all machines that we
// support are little-endian). It is larger than what any command here uses: some kernels write fields of bpf_attr beyond
// the size they are given (Linux 6.17 to 7.1 with BPF_PROG_QUERY).
type bpfAttr [32]uint64

// both joins two neighbouring 32-bit fields.
func both(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }

// deviceProgramName is what our programs are called (at most 15 characters), so that another process finds them again.
const deviceProgramName = "gosuda_devices"

// maxPrograms is how many programs attached to one directory are looked at; the kernel allows 64.
const maxPrograms = 64

// bpfLoadTries bounds how often a load is repeated that signals interrupt; Go preempts threads by signals.
const bpfLoadTries = 64

// LoadCgroupDevice loads a BPF_PROG_TYPE_CGROUP_DEVICE program, given as struct bpf_insn after struct bpf_insn, and returns
// its file descriptor, owned by the caller.
func LoadCgroupDevice(program []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	var name [unix.BPF_OBJ_NAME_LEN]byte
	copy(name[:], deviceProgramName)
	// Sound: what is pinned is on the heap, stays there and stays reachable, so its address may be kept as a number.
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&program[0])
	pinner.Pin(&license[0])
	attr := bpfAttr{
		0: both(unix.BPF_PROG_TYPE_CGROUP_DEVICE, uint32(len(program)/8)),
		1: uint64(uintptr(unsafe.Pointer(&program[0]))),
		2: uint64(uintptr(unsafe.Pointer(&license[0]))),
		// 3 to 5 are about a log.
		6: binary.LittleEndian.Uint64(name[:8]),
		7: binary.LittleEndian.Uint64(name[8:]),
	}
	var fd int
	var err error
	for range bpfLoadTries {
		if fd, err = bpf(unix.BPF_PROG_LOAD, &attr); err != unix.EAGAIN {
			break
		}
	}
	if err != nil {
		return -1, os.NewSyscallError("bpf BPF_PROG_LOAD", err)
	}
	return fd, nil
}

// AttachCgroupDevice attaches a program to a cgroup2 directory, both given by file descriptors, beside those that are
// attached there and above. It stays until the directory is removed.
func AttachCgroupDevice(cgroup, program int) error {
	return attach(cgroup, program, unix.BPF_F_ALLOW_MULTI, 0)
}

// ReplaceCgroupDevice attaches a program in the place of the one that [LoadCgroupDevice] loaded and somebody attached to
// the directory: at every moment one of the two decides. Without such a one it attaches it beside the others.
func ReplaceCgroupDevice(cgroup, program int) error {
	old, err := findCgroupDevice(cgroup)
	if err != nil {
		return err
	}
	if old < 0 {
		return AttachCgroupDevice(cgroup, program)
	}
	defer unix.Close(old)
	return attach(cgroup, program, unix.BPF_F_ALLOW_MULTI|unix.BPF_F_REPLACE, old)
}

func attach(cgroup, program int, flags uint32, old int) error {
	attr := bpfAttr{both(uint32(cgroup), uint32(program)), both(unix.BPF_CGROUP_DEVICE, flags), both(uint32(old), 0)}
	_, err := bpf(unix.BPF_PROG_ATTACH, &attr)
	return os.NewSyscallError("bpf BPF_PROG_ATTACH", err)
}

// findCgroupDevice opens our program that is attached to a directory; -1 when there is none.
func findCgroupDevice(cgroup int) (int, error) {
	ids := make([]uint32, maxPrograms)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&ids[0])
	attr := bpfAttr{
		0: both(uint32(cgroup), unix.BPF_CGROUP_DEVICE),
		2: uint64(uintptr(unsafe.Pointer(&ids[0]))), // Sound: it is pinned.
		3: both(uint32(len(ids)), 0),
	}
	if _, err := bpf(unix.BPF_PROG_QUERY, &attr); err != nil {
		return -1, os.NewSyscallError("bpf BPF_PROG_QUERY", err)
	}
	for _, id := range ids[:min(uint32(attr[3]), maxPrograms)] {
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &bpfAttr{both(id, 0)})
		if errors.Is(err, unix.ENOENT) {
			continue // detached meanwhile
		}
		if err != nil {
			return -1, os.NewSyscallError("bpf BPF_PROG_GET_FD_BY_ID", err)
		}
		name, err := programName(fd)
		if err == nil && name == deviceProgramName {
			return fd, nil
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	return -1, nil
}

// programName returns what a program was called when it was loaded.
func programName(program int) (string, error) {
	const nameAt = 64 // in struct bpf_prog_info
	info := make([]byte, nameAt+unix.BPF_OBJ_NAME_LEN)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&info[0])
	attr := bpfAttr{both(uint32(program), uint32(len(info))), uint64(uintptr(unsafe.Pointer(&info[0])))} // Sound: it is pinned.
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &attr); err != nil {
		return "", os.NewSyscallError("bpf BPF_OBJ_GET_INFO_BY_FD", err)
	}
	name, _, _ := bytes.Cut(info[nameAt:], []byte{0})
	return string(name), nil
}

func bpf(cmd uintptr, attr *bpfAttr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
