package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary runs itself to install filters: they cannot be taken off again.
const (
	childEnv    = "SECCOMP_TEST_CHILD"
	childExec   = "exec"   // install the filter of stdin and execute os.Args[1:]
	childNotify = "notify" // install the filter of stdin, make a call, and answer it
)

// childFilter is what a child reads from its standard input.
type childFilter struct {
	Program []byte
	Flags   uint32
}

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case childExec:
		err = execChild()
	case childNotify:
		err = notifyChild()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// install installs the filter of stdin for the calling thread and returns the listener, if it has one.
func install() (listener int, err error) {
	var f childFilter
	if err := json.NewDecoder(os.Stdin).Decode(&f); err != nil {
		return -1, err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("set no_new_privs: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(f.Program) / insnSize), Filter: (*unix.SockFilter)(unsafe.Pointer(&f.Program[0]))}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("install filter: %w", errno)
	}
	return int(fd), nil
}

func execChild() error {
	if _, err := install(); err != nil {
		return err
	}
	return syscall.Exec(os.Args[1], os.Args[1:], nil)
}

// notifyChild makes getppid(2) fail with EXDEV through the listener.
func notifyChild() error {
	listener := make(chan int)
	result := make(chan error)
	go func() {
		fd, err := install()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		listener <- fd
		_, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		result <- errno
	}()
	fd := <-listener
	const recv, send = 0xc0502100, 0xc0182101 // SECCOMP_IOCTL_NOTIF_RECV and _SEND
	var req [80]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), recv, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("receive notification: %w", errno)
	}
	if nr := binary.LittleEndian.Uint32(req[16:]); nr != unix.SYS_GETPPID {
		return fmt.Errorf("a notification of system call %d", nr)
	}
	var resp [24]byte
	copy(resp[:8], req[:8])
	exdev := -int32(unix.EXDEV)
	binary.LittleEndian.PutUint32(resp[16:], uint32(exdev))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), send, uintptr(unsafe.Pointer(&resp))); errno != 0 {
		return fmt.Errorf("answer notification: %w", errno)
	}
	if err := <-result; !errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("getppid: %w, want EXDEV", err)
	}
	return nil
}

// hostArch returns the machine and its two ABIs' GOARCHs.
func hostArch(t *testing.T) (machine Arch, native, compat string) {
	t.Helper()
	switch runtime.GOARCH {
	case "amd64":
		return AMD64, "amd64", "386"
	case "arm64":
		return ARM64, "arm64", "arm"
	}
	t.Skipf("%s is not supported", runtime.GOARCH)
	return 0, "", ""
}

// buildProbe builds testdata/probe for a GOARCH, unless it is there already: a machine without Go is given it.
func buildProbe(t *testing.T, goarch string) string {
	t.Helper()
	if built, err := filepath.Abs("testdata/probe/probe-" + goarch); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	path := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/probe")
	cmd.Env = append(os.Environ(), "GOARCH="+goarch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v\n%s", err, out)
	}
	return path
}

// child returns a command that runs this binary as a child with a filter.
func child(t *testing.T, mode string, f *Filter, args ...string) *exec.Cmd {
	t.Helper()
	in, err := json.Marshal(childFilter{f.Bytes(), f.Flags})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.Stdin = strings.NewReader(string(in))
	return cmd
}

// errnos runs a probe, under a filter if there is one.
func errnos(t *testing.T, f *Filter, probe string, calls []Data) []int {
	t.Helper()
	arg, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(probe, string(arg))
	if f != nil {
		cmd = child(t, childExec, f, probe, string(arg))
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run probe: %v\n%s", err, stderr.String())
	}
	var got []int
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// probeCalls are system calls that do no harm whether they are allowed or not.
func probeCalls(a abi) []Data {
	var calls []Data
	add := func(name string, args ...uint64) {
		row, ok := lookup(name)
		if !ok || syscallNumbers[row][a] < 0 {
			return
		}
		d := Data{Nr: uint32(syscallNumbers[row][a]), Arch: abis[a].audit}
		copy(d.Args[:], args)
		calls = append(calls, d)
	}
	for family := range uint64(46) {
		add("socket", family, 1)
	}
	add("socket", 1<<32|40, 1)
	for _, persona := range []uint64{0xffffffff, 0x1234, 0x20009} {
		add("personality", persona)
	}
	for _, name := range []string{"getpid", "getppid", "uname", "mount", "clone3", "setns", "bpf", "perf_event_open", "add_key", "swapon", "open_by_handle_at", "futex_waitv", "mseal", "socketcall", "ipc", "userfaultfd"} {
		add(name, allBits, allBits, allBits, allBits, allBits, allBits)
	}
	for _, nr := range []uint32{472, 500, 600, 1000} {
		calls = append(calls, Data{Nr: nr, Arch: abis[a].audit})
	}
	if abis[a].is32 {
		for i := range calls {
			for j := range calls[i].Args {
				calls[i].Args[j] &= 0xffffffff
			}
		}
	}
	return calls
}

// TestInstalled makes system calls under filters that are really installed, of the native and the 32-bit ABI, and
// compares the errnos with what Eval says of the filter.
func TestInstalled(t *testing.T) {
	machine, native, compat := hostArch(t)
	probes := map[string][]Data{native: probeCalls(machines[machine][0][0]), compat: probeCalls(machines[machine][1][0])}
	if err := exec.Command(buildProbe(t, compat), "[]").Run(); errors.Is(err, unix.ENOEXEC) {
		t.Logf("the kernel runs no %s programs", compat)
		delete(probes, compat)
	}
	for goarch, calls := range probes {
		probe := buildProbe(t, goarch)
		plain := errnos(t, nil, probe, calls)
		for name, p := range map[string]*specs.LinuxSeccomp{
			"containerd": readProfile(t, "containerd.json"),
			"docker":     readProfile(t, "docker.json"),
			"trace":      parseJSON(t, `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM"],"syscalls":[{"names":["uname"],"action":"SCMP_ACT_TRACE"},{"names":["getppid"],"action":"SCMP_ACT_ERRNO","errnoRet":4094}]}`),
			"log":        parseJSON(t, `{"defaultAction":"SCMP_ACT_LOG","flags":["SECCOMP_FILTER_FLAG_LOG"],"architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM"],"syscalls":[{"names":["uname"],"action":"SCMP_ACT_ERRNO"}]}`),
		} {
			t.Run(goarch+"/"+name, func(t *testing.T) {
				if machine == ARM64 {
					p = forARM64(p)
				}
				f := mustCompile(t, p, machine)
				for i, got := range errnos(t, f, probe, calls) {
					ret, err := Eval(f.Insns, calls[i])
					if err != nil {
						t.Fatal(err)
					}
					want := plain[i]
					switch ret &^ 0xffff {
					case retErrno:
						want = int(ret & 0xffff)
					case retTrace: // without a tracer
						want = enosys
					case retAllow, retLog:
					default:
						t.Fatalf("unexpected answer %#x", ret)
					}
					if got != want {
						t.Errorf("system call %d %#x: errno %d, want %d (filter says %#x)", calls[i].Nr, calls[i].Args, got, want, ret)
					}
				}
			})
		}
	}
}

// TestInstalledAsRunc installs the programs of both compilers, and makes the same system calls under each.
func TestInstalledAsRunc(t *testing.T) {
	machine, native, _ := hostArch(t)
	r := startRunc(t)
	calls := probeCalls(machines[machine][0][0])
	probe := buildProbe(t, native)
	for _, name := range []string{"containerd", "docker"} {
		p, theirs := r.knownTo(t, readProfile(t, name+".json"))
		if theirs.Error != "" {
			t.Fatalf("runc: %s", theirs.Error)
		}
		ours := errnos(t, mustCompile(t, p, machine), probe, calls)
		for i, want := range errnos(t, &Filter{Insns: theirs.program(), Flags: theirs.Flags}, probe, calls) {
			if ours[i] != want {
				t.Errorf("%s: system call %d %#x: errno %d, with runc's filter %d", name, calls[i].Nr, calls[i].Args, ours[i], want)
			}
		}
	}
}

// TestInstalledX32 makes calls with the numbers of x32: a filter sees them also on a kernel that does not have the ABI, and
// then what it lets through is ENOSYS.
func TestInstalledX32(t *testing.T) {
	machine, native, _ := hostArch(t)
	if machine != AMD64 {
		t.Skip("x32 is an ABI of x86-64")
	}
	probe := buildProbe(t, native)
	number := func(name string) uint32 {
		row, _ := lookup(name)
		return uint32(syscallNumbers[row][abiX32]) | x32Bit
	}
	calls := []Data{{Nr: number("getpid")}, {Nr: number("getppid")}, {Nr: number("mount"), Args: [6]uint64{allBits}}, {Nr: 600 | x32Bit}}
	plain := errnos(t, nil, probe, calls)
	f := mustCompile(t, parseJSON(t, `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":33,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],
		"syscalls":[{"names":["getpid"],"action":"SCMP_ACT_ALLOW"},{"names":["getppid"],"action":"SCMP_ACT_ERRNO","errnoRet":34},{"names":["futex_waitv"],"action":"SCMP_ACT_ALLOW"}]}`), machine)
	for i, d := range calls {
		d.Arch = abis[abiX32].audit
		ret, err := Eval(f.Insns, d)
		want := []uint32{retAllow, retErrno | 34, retErrno | 33, retErrno | enosys}[i]
		if err != nil || ret != want {
			t.Errorf("system call %#x: %#x %v, want %#x", d.Nr, ret, err, want)
		}
	}
	all := *f
	all.Insns = allowNative(f.Insns)
	for i, got := range errnos(t, &all, probe, calls) {
		if want := []int{plain[0], 34, 33, enosys}[i]; got != want {
			t.Errorf("system call %#x: errno %d, want %d", calls[i].Nr, got, want)
		}
	}
}

// allowNative puts in front of a filter that every call of x86-64 proper is allowed, so that a program can run that tries
// those of x32.
func allowNative(insns []Insn) []Insn {
	head := []Insn{
		{Code: opLoad, K: offsetArch}, {Code: opJumpEQ, K: abis[abiAMD64].audit, Jf: 3},
		{Code: opLoad, K: offsetNr}, {Code: opJumpGE, K: x32Bit, Jt: 1}, {Code: opReturn, K: retAllow},
	}
	return append(head, insns...)
}

// TestInstalledKill lets filters kill a process, by its system call and by its ABI.
func TestInstalledKill(t *testing.T) {
	machine, native, compat := hostArch(t)
	calls := `[{"Nr":0,"Args":[4294967295,0,0,0,0,0]}]` // read or, on arm64, io_setup
	for name, test := range map[string]struct{ profile, goarch string }{
		"process": {`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read","io_setup"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":4294967295,"op":"SCMP_CMP_EQ"}]}]}`, native},
		"abi":     {`{"defaultAction":"SCMP_ACT_ALLOW"}`, compat},
	} {
		t.Run(name, func(t *testing.T) {
			f := mustCompile(t, parseJSON(t, test.profile), machine)
			err := child(t, childExec, f, buildProbe(t, test.goarch), calls).Run()
			if test.goarch == compat && errors.Is(err, unix.ENOEXEC) {
				t.Skipf("the kernel runs no %s programs", compat)
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
				t.Errorf("probe ended with %v, want SIGSYS", err)
			}
		})
	}
}

func TestInstalledNotify(t *testing.T) {
	machine, _, _ := hostArch(t)
	f := mustCompile(t, parseJSON(t, `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent","syscalls":[{"names":["getppid"],"action":"SCMP_ACT_NOTIFY"}]}`), machine)
	if out, err := child(t, childNotify, f).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
