package sys

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpfAttr is the part of union bpf_attr that LoadCgroupDevice and AttachCgroupDevice use, padded: some kernels write fields
// of bpf_attr beyond the size they are given (Linux 6.17 to 7.1 with BPF_PROG_QUERY).
type bpfAttr struct {
	words [2]uint32
	ptrs  [2]uint64
	_     [232]byte
}

// bpfLoadTries bounds how often a load is repeated that signals interrupt; Go preempts threads by signals.
const bpfLoadTries = 64

// LoadCgroupDevice loads a BPF_PROG_TYPE_CGROUP_DEVICE program, given as struct bpf_insn after struct bpf_insn, and returns
// its file descriptor, owned by the caller.
func LoadCgroupDevice(program []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	// Sound: what is pinned is on the heap, stays there and stays reachable, so its address may be kept as a number.
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&program[0])
	pinner.Pin(&license[0])
	attr := bpfAttr{
		words: [2]uint32{unix.BPF_PROG_TYPE_CGROUP_DEVICE, uint32(len(program) / 8)},
		ptrs:  [2]uint64{uint64(uintptr(unsafe.Pointer(&program[0]))), uint64(uintptr(unsafe.Pointer(&license[0])))},
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
	attr := bpfAttr{words: [2]uint32{uint32(cgroup), uint32(program)}}
	// attach_type and attach_flags follow as 32-bit words.
	attr.ptrs[0] = unix.BPF_CGROUP_DEVICE | unix.BPF_F_ALLOW_MULTI<<32
	_, err := bpf(unix.BPF_PROG_ATTACH, &attr)
	return os.NewSyscallError("bpf BPF_PROG_ATTACH", err)
}

func bpf(cmd uintptr, attr *bpfAttr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
