//go:build linux && cgo && seccomp

// Command seccomp prints the BPF programs that runc and libseccomp make of seccomp profiles.
//
// It reads JSON linux.seccomp objects from its standard input, one after the other, and answers each with one JSON
// object on its standard output. The tests of runtime/internal/seccomp compare gosuda's programs with these.
//
// The whole of runc's code runs, up to the system call that would install the filter: this thread's seccomp(2) and
// prctl(2) are handed to a supervisor inside the process, which copies the program and answers success.
package main

// #cgo LDFLAGS: -lpthread
// #include "intercept.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// answer is what the program says about one profile.
type answer struct {
	BPF   []byte `json:"bpf,omitempty"`   // struct sock_filter array, in the machine's byte order
	Flags uint64 `json:"flags"`           // the flags argument of seccomp(2); 0 also where runc used prctl(2)
	Error string `json:"error,omitempty"` // why runc refused the profile

	// Unknown are the names in the profile that this libseccomp is too old for; runc leaves them out.
	Unknown []string `json:"unknown,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	if errno := C.intercept_start(); errno != 0 {
		return fmt.Errorf("intercept seccomp(2): errno %d", int(errno))
	}
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var profile specs.LinuxSeccomp
		err := dec.Decode(&profile)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode profile: %w", err)
		}
		// libseccomp 2.5 loops for ever on some profiles with many comparisons.
		watchdog := time.AfterFunc(time.Minute, func() {
			fmt.Fprintln(os.Stderr, "seccomp: libseccomp does not come back from a profile")
			os.Exit(1)
		})
		a := compile(&profile)
		watchdog.Stop()
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
	}
}

// compile has runc compile and "install" profile, and returns what it would have installed.
func compile(profile *specs.LinuxSeccomp) answer {
	var a answer
	for _, entry := range profile.Syscalls {
		for _, name := range entry.Names {
			if _, err := libseccomp.GetSyscallFromName(name); err != nil {
				a.Unknown = append(a.Unknown, name)
			}
		}
	}
	config, err := specconv.SetupSeccomp(profile)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	if config == nil {
		return a
	}
	C.intercepted.len = 0
	if _, err := seccomp.InitSeccomp(config); err != nil {
		a.Error = err.Error()
		return a
	}
	a.BPF = C.GoBytes(unsafe.Pointer(&C.intercepted.insns), C.int(C.intercepted.len)*8)
	a.Flags = uint64(C.intercepted.flags)
	return a
}
