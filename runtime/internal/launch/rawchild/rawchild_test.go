package rawchild_test

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
)

func imm(v uint64) rawchild.Arg  { return rawchild.Arg{Kind: rawchild.Imm, Word: v} }
func data(v uint64) rawchild.Arg { return rawchild.Arg{Kind: rawchild.Data, Word: v} }
func reg(v uint64) rawchild.Arg  { return rawchild.Arg{Kind: rawchild.Reg, Word: v} }

// instruction is one with its branches.
type instruction struct {
	rawchild.Op
	branches []rawchild.Branch
}

func op(nr uint32, args ...rawchild.Arg) instruction {
	o := rawchild.Op{Nr: nr, Dst: -1}
	for i, a := range args {
		o.SetArg(i, a)
	}
	return instruction{Op: o}
}

func on(o instruction, errno int32, to int32) instruction {
	o.branches = append(slices.Clone(o.branches), rawchild.Branch{Errno: errno, To: to})
	return o
}

func at(step int32, o instruction) instruction { o.Step = step; return o }

func into(o instruction, r int8) instruction { o.Dst = r; return o }

func program(ops ...instruction) *rawchild.Program {
	p := &rawchild.Program{}
	for _, o := range ops {
		p.Ops = append(p.Ops, o.Op)
	}
	for n, more := 0, true; more; n++ { // the first of each, the second of each, ...
		more = false
		for i, o := range ops {
			if n < len(o.branches) {
				p.Branch(i, o.branches[n])
				more = true
			}
		}
	}
	return p
}

// run runs a program whose reports and output go to one pipe, and returns what came out and the exit status.
func run(t *testing.T, ops []instruction, mem []byte, relocs ...rawchild.Reloc) (string, unix.WaitStatus) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := program(append(ops, op(rawchild.OpFail, imm(uint64(unix.ENOTRECOVERABLE))))...)
	p.Data, p.Relocs = mem, relocs
	p.Init[rawchild.ReportReg] = uint64(w.Fd())
	pid, fd, err := rawchild.Start(p, rawchild.Clone{PidNS: -1})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	out, _ := io.ReadAll(r)
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(out), status
}

func exit(code uint64) instruction { return op(unix.SYS_EXIT_GROUP, imm(code)) }

func report(step int32, errno unix.Errno) string {
	b := binary.NativeEndian.AppendUint32(nil, uint32(rawchild.Failed))
	b = binary.NativeEndian.AppendUint32(b, uint32(step))
	return string(binary.NativeEndian.AppendUint32(b, uint32(errno)))
}

func TestInterpreter(t *testing.T) {
	failing := op(unix.SYS_CLOSE, imm(1<<30))
	failing.Step = 7
	short := op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(0), imm(2))
	short.Exact, short.Want, short.Step = true, 3, 9
	for _, tc := range []struct {
		name string
		ops  []instruction
		mem  string
		out  string
		code int
	}{
		{"writes data", []instruction{op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(1), imm(2)), exit(3)}, "abcd", "bc", 3},
		{"reports a failure", []instruction{failing}, "", report(7, unix.EBADF), 1},
		{"reports a wrong result", []instruction{short}, "ab", "ab" + report(9, unix.EPIPE), 1},
		{"branches on an errno", []instruction{on(failing, int32(unix.EBADF), 2), exit(1), exit(4)}, "", "", 4},
		{"branches on any errno", []instruction{on(failing, -1, 2), exit(1), exit(4)}, "", "", 4},
		{"looks at its branches in their order", []instruction{on(on(on(failing, int32(unix.EPERM), 1), int32(unix.EBADF), 2), -1, 1), on(exit(1), -1, 0), exit(4)}, "", "", 4},
		{"does not branch on another", []instruction{on(failing, int32(unix.EPERM), 2), exit(1), exit(4)}, "", report(7, unix.EBADF), 1},
		{"jumps", []instruction{op(rawchild.OpJump, imm(2)), exit(1), exit(5)}, "", "", 5},
		{"keeps results", []instruction{into(op(unix.SYS_DUP, reg(rawchild.ReportReg)), 5), op(unix.SYS_WRITE, reg(5), data(0), imm(1)), exit(0)}, "x", "x", 0},
		{"sets registers", []instruction{into(op(rawchild.OpSet, imm(6)), 4), op(unix.SYS_EXIT_GROUP, reg(4))}, "", "", 6},
		{"stores and tests", []instruction{op(rawchild.OpStore32, data(4), imm(0x1234)),
			op(rawchild.OpTest, data(4), imm(0xff), imm(0x34), imm(uint64(unix.EPERM))), exit(8)}, "........", "", 8},
		{"loads", []instruction{into(op(rawchild.OpLoad32, data(4)), 5), op(unix.SYS_EXIT_GROUP, reg(5))}, "....\x2a\x00\x00\x00", "", 42},
		{"fails a test", []instruction{op(rawchild.OpTest, data(0), imm(0xff), imm('y'), imm(uint64(unix.EPERM)))}, "xxxx", report(0, unix.EPERM), 1},
		{"calls and returns", []instruction{op(rawchild.OpCall, imm(3)), op(rawchild.OpCall, imm(3)), exit(9),
			op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(0), imm(1)), op(rawchild.OpReturn)}, "x", "xx", 9},
		{"fails for its caller", []instruction{at(7, op(rawchild.OpCall, imm(1))), at(rawchild.CallersStep, failing)}, "", report(7, unix.EBADF), 1},
		{"fails at once", []instruction{op(rawchild.OpFail, imm(uint64(unix.EIO)))}, "", report(0, unix.EIO), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, status := run(t, tc.ops, []byte(tc.mem))
			if out != tc.out || status.ExitStatus() != tc.code {
				t.Errorf("output %q, status %d; want %q, %d", out, status.ExitStatus(), tc.out, tc.code)
			}
		})
	}
}

// TestRelocation executes a program by an argument vector whose pointers are filled in at the start.
func TestRelocation(t *testing.T) {
	mem := make([]byte, 40)
	copy(mem[32:], "true\x00")
	path := len(mem)
	mem = append(mem, "/bin/true\x00"...)
	_, status := run(t, []instruction{op(unix.SYS_EXECVE, data(uint64(path)), data(0), data(8))}, mem, rawchild.Reloc{At: 0, Target: 32})
	if !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("status %x", status)
	}
}

// TestSignals: the child has default handlers, whatever Go does with signals, and what it is sent before it wants to know waits.
func TestSignals(t *testing.T) {
	kill := op(unix.SYS_KILL, reg(3), imm(uint64(unix.SIGTERM)))
	unblock := op(unix.SYS_RT_SIGPROCMASK, imm(unix.SIG_SETMASK), data(0), imm(0), imm(8))
	said := op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(8), imm(1))
	out, status := run(t, []instruction{into(op(unix.SYS_GETPID), 3), kill, said, unblock, said}, []byte("\x00\x00\x00\x00\x00\x00\x00\x00x"))
	if !status.Signaled() || status.Signal() != unix.SIGTERM || out != "x" {
		t.Errorf("output %q, status %x", out, status)
	}
}

// known is a variable that the program has a place for, and initial is one that it begins with.
var (
	known   [64]byte
	initial = [64]byte{1: 1}
)

// TestOwn: the child has nothing of what its parent knows, and whoever forks otherwise has it all.
func TestOwn(t *testing.T) {
	secret := []byte("secret, on the heap by its way into another package")
	known[0], initial[0] = 1, 1 // so that there is memory for them
	for name, memory := range map[string][]byte{"heap": secret, "variable": known[:], "initial": initial[:]} {
		read := op(unix.SYS_WRITE, reg(rawchild.ReportReg), imm(uint64(uintptr(unsafe.Pointer(&memory[0])))), imm(uint64(len(memory))))
		if out, status := run(t, []instruction{read}, memory); out != report(0, unix.EFAULT) || status.ExitStatus() != 1 {
			t.Errorf("%s: output %q, status %x", name, out, status)
		}
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER} // for which Go makes a copy of itself
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// TestRoom: a child begins with one program, and goes on with another that is made when it runs; registers are kept, data is not.
func TestRoom(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wait, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer tell.Close()
	room, err := rawchild.NewRoom()
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	write := func(n uint64) instruction { return op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(0), imm(n)) }
	last := op(rawchild.OpFail, imm(uint64(unix.ENOTRECOVERABLE)))
	first := program(write(5), into(op(rawchild.OpSet, imm(6)), 9), op(unix.SYS_READ, imm(uint64(wait.Fd())), data(8), imm(1)), op(rawchild.OpContinue), last)
	first.Data, first.Rest = make([]byte, 16), room
	copy(first.Data, "first")
	first.Init[rawchild.ReportReg] = uint64(w.Fd())
	pid, fd, err := rawchild.Start(first, rawchild.Clone{PidNS: -1})
	w.Close()
	wait.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)

	rest := room.Program(4, 4, 16)
	second := program(write(6), on(op(unix.SYS_CLOSE, imm(1<<30)), int32(unix.EBADF), 3), exit(1), op(unix.SYS_EXIT_GROUP, reg(9)), last)
	rest.Ops, rest.Branches = append(rest.Ops, second.Ops...), append(rest.Branches, second.Branches...)
	rest.Data = append(rest.Data, "second"...)
	if err := room.Fill(&rest); err != nil {
		t.Fatal(err)
	}
	tell.Write([]byte{1})
	out, _ := io.ReadAll(r)
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	if string(out) != "firstsecond" || status.ExitStatus() != 6 {
		t.Errorf("output %q, status %x", out, status)
	}

	large := room.Program(1, 1, 1)
	large.Ops = append(large.Ops, last.Op)
	large.Data = append(large.Data, make([]byte, 2<<20)...)
	if err := room.Fill(&large); !errors.Is(err, rawchild.ErrRoom) {
		t.Errorf("a large program: %v", err)
	}
}

// TestBeside: a process beside shares its caller's memory and nobody else's descriptors, and gives no signal when it ends.
func TestBeside(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	word := make([]byte, 8)
	p := program(op(rawchild.OpStore32, data(0), imm(7)), op(unix.SYS_WRITE, reg(rawchild.ReportReg), data(0), imm(4)),
		op(unix.SYS_CLOSE, imm(uint64(r.Fd()))), exit(0), op(rawchild.OpFail, imm(1)))
	p.Data, p.SharedData = word, true
	p.Init[rawchild.ReportReg] = uint64(w.Fd())
	b, err := rawchild.StartBeside(p)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r) // the descriptor is still ours
	if binary.NativeEndian.Uint32(out) != 7 || err != nil {
		t.Errorf("output %q, %v", out, err)
	}
	b.Wait()
	if binary.NativeEndian.Uint32(word) != 7 {
		t.Errorf("the memory that both have holds %v", word)
	}
	b.End()

	wait := program(op(unix.SYS_PPOLL), op(rawchild.OpFail, imm(1)))
	if b, err = rawchild.StartBeside(wait); err != nil {
		t.Fatal(err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("who waits for children finds %d, %v", pid, err)
	}
	b.End()
	b.End()
	if _, err := rawchild.StartBeside(program(exit(0))); err == nil || !strings.Contains(err.Error(), "bug") {
		t.Errorf("a program that falls off its end: %v", err)
	}
}

// TestRefused: what the child could not survive is refused before the fork.
func TestRefused(t *testing.T) {
	last := op(rawchild.OpFail, imm(1))
	for name, p := range map[string]*rawchild.Program{
		"falls off":  program(exit(0)),
		"empty":      {},
		"register":   program(into(exit(0), rawchild.Registers), last),
		"argument":   program(op(unix.SYS_CLOSE, reg(rawchild.Registers)), last),
		"data":       program(op(unix.SYS_CLOSE, data(1)), last),
		"jump":       program(op(rawchild.OpJump, imm(2)), last),
		"call":       program(op(rawchild.OpCall, imm(2)), last),
		"indirect":   program(op(rawchild.OpJump, reg(1)), last),
		"branch":     program(on(exit(0), -1, -1), last),
		"relocation": {Ops: []rawchild.Op{last.Op}, Relocs: []rawchild.Reloc{{At: 0}}},
		"test":       program(op(rawchild.OpTest, imm(0)), last),
		"continue":   program(op(rawchild.OpContinue), last),
	} {
		if pid, _, err := rawchild.Start(p, rawchild.Clone{PidNS: -1}); err == nil || !strings.Contains(err.Error(), "bug") {
			t.Errorf("%s: pid %d, %v", name, pid, err)
		}
	}
}

// TestManyForks forks from many goroutines at once, whose stacks move: every child gets its pidfd.
func TestManyForks(t *testing.T) {
	done := make(chan error, 64)
	for range 64 {
		go func() {
			var grow func(int) int
			grow = func(n int) int {
				var pad [256]byte
				if n == 0 {
					return int(pad[0])
				}
				return grow(n-1) + int(pad[1])
			}
			grow(100)
			pid, fd, err := rawchild.Start(program(exit(0), op(rawchild.OpFail, imm(1))), rawchild.Clone{PidNS: -1})
			if err == nil {
				_, err = unix.Wait4(pid, nil, 0, nil)
				if e := unix.Close(fd); err == nil {
					err = e
				}
			}
			done <- err
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
