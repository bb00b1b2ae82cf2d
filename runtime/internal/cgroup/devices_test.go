package cgroup

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func rule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
	if major >= 0 {
		r.Major = &major
	}
	if minor >= 0 {
		r.Minor = &minor
	}
	return r
}

func (p *devicePolicy) String() string {
	words := []string{"deny"}
	if p.allow {
		words[0] = "allow"
	}
	for _, e := range p.exceptions {
		words = append(words, e.String())
	}
	return strings.Join(words, ", ")
}

func TestCompileDevices(t *testing.T) {
	const defaults = "c *:* m, b *:* m, c 1:3 rwm, c 1:8 rwm, c 1:7 rwm, c 5:0 rwm, c 1:5 rwm, c 1:9 rwm, c 136:* rwm," +
		" c 5:2 rwm, c 10:200 rwm"
	denyAll := rule(false, "a", -1, -1, "rwm")
	for _, test := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  string
	}{
		{nil, "deny, " + defaults},
		{[]specs.LinuxDeviceCgroup{denyAll}, "deny, " + defaults},
		{[]specs.LinuxDeviceCgroup{rule(true, "", -1, -1, "rwm")}, "allow"},
		{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "b", 8, 0, "r"), rule(true, "b", 8, 0, "w")}, "deny, b 8:0 rw, " + defaults},
		{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "b", 8, 0, "rw"), rule(false, "b", 8, 0, "rw")}, "deny, " + defaults},
		{[]specs.LinuxDeviceCgroup{denyAll, rule(false, "c", 1, 3, "rwm")}, "deny, " + defaults}, // as in runc
		{[]specs.LinuxDeviceCgroup{rule(true, "a", -1, -1, "rwm"), rule(false, "b", 8, -1, "w")}, "allow, b 8:* w"},
		{[]specs.LinuxDeviceCgroup{rule(true, "a", -1, -1, "rwm"), rule(false, "c", 1, 11, "rwm"), denyAll}, "deny, " + defaults},

		{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "p", 1, 1, "r")}, `linux.resources.devices[1]: type "p" is not a, b or c`},
		{[]specs.LinuxDeviceCgroup{rule(true, "c", 1, 1, "")}, "linux.resources.devices[0]: access is missing"},
		{[]specs.LinuxDeviceCgroup{rule(true, "c", 1, 1, "rx")}, `linux.resources.devices[0]: access "rx" is not made of r, w and m`},
		{[]specs.LinuxDeviceCgroup{rule(true, "c", 1<<32, 1, "r")}, "linux.resources.devices[0]: device 4294967296:1 is out of range"},
		{[]specs.LinuxDeviceCgroup{rule(true, "b", 8, -1, "rw"), rule(false, "b", 8, 0, "w")},
			`linux.resources.devices[1]: cannot make a hole in the wider rule "b 8:* rw"`},
	} {
		p, err := compileDevices(&specs.LinuxResources{Devices: test.rules})
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", test.rules, got, test.want)
		}
	}
}

// permits is what the policy means.
func (p *devicePolicy) permits(id deviceID, a access) bool {
	for _, e := range p.exceptions {
		if !e.covers(id) {
			continue
		}
		if p.allow && e.access&a != 0 {
			return false
		}
		if !p.allow && a&^e.access == 0 {
			return true
		}
	}
	return p.allow
}

// TestDeviceProgram runs compiled policies in an interpreter and compares them with their meaning.
func TestDeviceProgram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	numbers := []int64{anyNumber, 0, 1, 1<<32 - 1}
	kinds := []byte{'b', 'c'}
	random := func(numbers []int64) deviceID {
		return deviceID{kinds[rng.IntN(2)], numbers[rng.IntN(len(numbers))], numbers[rng.IntN(len(numbers))]}
	}
	for range 500 {
		p := devicePolicy{allow: rng.IntN(2) == 0}
		for range rng.IntN(6) {
			_ = p.change(rng.IntN(4) != 0, deviceException{random(numbers), access(1 + rng.IntN(7))})
		}
		program := p.program()
		for range 50 {
			id, a := random(numbers[1:]), access(1+rng.IntN(7))
			if got, want := interpret(t, program, id, a), p.permits(id, a); got != want {
				t.Fatalf("%s: %s %s: %v, want %v", p.String(), id, a, got, want)
			}
		}
	}
}

// interpret runs a device program as the kernel would.
func interpret(t *testing.T, program []byte, id deviceID, a access) bool {
	t.Helper()
	kind := uint32(unix.BPF_DEVCG_DEV_CHAR)
	if id.kind == 'b' {
		kind = unix.BPF_DEVCG_DEV_BLOCK
	}
	ctx := map[int16]uint32{0: kind | uint32(a)<<16, 4: uint32(id.major), 8: uint32(id.minor)}
	var reg [10]uint32
	for pc := 0; pc < len(program)/8; pc++ {
		b := program[8*pc:]
		op, dst, src := b[0], b[1]&15, b[1]>>4
		off := int16(uint16(b[2]) | uint16(b[3])<<8)
		imm := uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24
		switch op {
		case 0x61: // ldxw
			reg[dst] = ctx[off]
		case 0x54: // and
			reg[dst] &= imm
		case 0x74: // rsh
			reg[dst] >>= imm
		case 0xbc: // mov, register
			reg[dst] = reg[src]
		case 0xb4: // mov
			reg[dst] = imm
		case 0x16: // jeq
			if reg[dst] == imm {
				pc += int(off)
			}
		case 0x56: // jne
			if reg[dst] != imm {
				pc += int(off)
			}
		case 0x5e: // jne, register
			if reg[dst] != reg[src] {
				pc += int(off)
			}
		case 0x95:
			return reg[0] == 1
		default:
			t.Fatalf("instruction %d: operation %#x", pc, op)
		}
	}
	t.Fatal("the program runs off its end")
	return false
}

// TestDevices opens device nodes in containers, with rules in force by the v1 controller and by a program.
func TestDevices(t *testing.T) {
	h := probe(t)
	t.Run("default", func(t *testing.T) { testDevices(t, create(t, h, nil), "open, EPERM, EPERM") })
	t.Run("allowed", func(t *testing.T) {
		c := create(t, h, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			rule(false, "a", -1, -1, "rwm"), rule(true, "c", 1, 11, "r")}})
		testDevices(t, c, "open, open, EPERM")
	})
	t.Run("denied", func(t *testing.T) {
		c := create(t, h, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			rule(true, "a", -1, -1, "rwm"), rule(false, "c", 1, 11, "w")}})
		testDevices(t, c, "open, open, EPERM")
	})
	t.Run("privileged", func(t *testing.T) {
		c := create(t, h, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(true, "a", -1, -1, "rwm")}})
		testDevices(t, c, "open, open, open")
	})
	if h.Mode == V2 || h.Unified == "" {
		return
	}
	// A hybrid host can run the programs of v2 too.
	t.Run("program", func(t *testing.T) {
		c := create(t, h, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(true, "a", -1, -1, "rwm")}})
		p, err := compileDevices(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(true, "c", 1, 11, "r")}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.setV2(c.unified); err != nil {
			t.Fatal(err)
		}
		testDevices(t, c, "open, open, EPERM")
	})
}

// TestDevicesUpdate changes the rules of a live container, in the process that made it and in another one, with the v1
// controller and with a program.
func TestDevicesUpdate(t *testing.T) {
	denyAll, allowAll := rule(false, "a", -1, -1, "rwm"), rule(true, "a", -1, -1, "rwm")
	kmsg := rule(true, "c", 1, 11, "r")
	for _, how := range deviceControls(t) {
		t.Run(how.name, func(t *testing.T) {
			c := create(t, how.host, nil)
			for i, step := range []struct {
				rules []specs.LinuxDeviceCgroup
				want  string
			}{
				{nil, "open, EPERM, EPERM"},
				{[]specs.LinuxDeviceCgroup{denyAll, kmsg}, "open, open, EPERM"},
				{[]specs.LinuxDeviceCgroup{denyAll, kmsg}, "open, open, EPERM"},
				{nil, "open, open, EPERM"}, // not mentioned
				{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "c", 1, 11, "w")}, "open, EPERM, open"},
				{[]specs.LinuxDeviceCgroup{allowAll}, "open, open, open"},
				{[]specs.LinuxDeviceCgroup{allowAll, rule(false, "c", 1, 11, "w")}, "open, open, EPERM"},
				{[]specs.LinuxDeviceCgroup{allowAll, rule(false, "c", 1, 11, "r")}, "open, EPERM, open"},
				{[]specs.LinuxDeviceCgroup{denyAll}, "open, EPERM, EPERM"},
			} {
				if i > 3 && i%2 == 0 { // as another process that knows the paths only
					paths := c.Paths()
					c = Load(how.host, paths, "")
				}
				if err := c.Set(&specs.LinuxResources{Devices: step.rules}); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				testDevices(t, c, step.want)
			}
			err := c.Set(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(3))},
				Devices: []specs.LinuxDeviceCgroup{rule(true, "p", 1, 1, "r")}})
			if err == nil || !strings.Contains(err.Error(), "linux.resources.devices[0]") {
				t.Errorf("a bad rule: %v", err)
			}
			checkFiles(t, c, nil, nil, map[string]string{"pids.max": "max"})
		})
	}
}

// deviceControls returns hosts with each way to control devices that there is here: a hybrid host without its devices
// hierarchy uses programs.
func deviceControls(t *testing.T) (list []struct {
	name string
	host *Host
}) {
	h := probe(t)
	add := func(name string, h *Host) {
		list = append(list, struct {
			name string
			host *Host
		}{name, h})
	}
	if h.home("devices") == V1 {
		add("v1", h)
	}
	if h.Unified != "" {
		add("program", &Host{Mode: h.Mode, Unified: h.Unified, UnifiedOwn: h.UnifiedOwn, UnifiedControllers: h.UnifiedControllers,
			unified: h.unified, Hierarchies: slices.DeleteFunc(slices.Clone(h.Hierarchies), func(x Hierarchy) bool {
				return slices.Contains(x.Controllers, "devices")
			})})
	}
	return list
}

// While rules change, what the old and the new ones agree on stays so at every moment.
func TestDevicesUpdateWindow(t *testing.T) {
	for _, how := range deviceControls(t) {
		t.Run(how.name, func(t *testing.T) {
			lists := [][]specs.LinuxDeviceCgroup{
				{rule(false, "a", -1, -1, "rwm"), rule(true, "c", 1, 5, "rwm")},
				{rule(false, "a", -1, -1, "rwm"), rule(true, "c", 1, -1, "wm"), rule(true, "c", 1, 5, "rwm")},
				{rule(true, "a", -1, -1, "rwm"), rule(false, "c", 1, 11, "r")},
				{rule(true, "a", -1, -1, "rwm"), rule(false, "c", 1, 11, "rw"), rule(false, "b", 8, -1, "w")},
			}
			c := create(t, how.host, &specs.LinuxResources{Devices: lists[0]})
			dir := t.TempDir()
			for name, minor := range map[string]uint32{"null": 3, "kmsg": 11} {
				if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
					t.Skipf("device nodes cannot be made here: %v", err)
				}
			}
			// Writing null is allowed by all lists, reading kmsg by none. The rules change until the process has tried often.
			p := run(t, c, `cd "`+dir+`"; exec 2> /dev/null; echo ready; n=0
				while [ $n -lt 100 -o ! -e changed ]; do
					{ :; } > null || echo "null is denied"
					{ :; } < kmsg && echo "kmsg is allowed"
					n=$((n+1)); [ $n -lt 100 ] || : > tried
				done; echo done`)
			p.line(t)
			tried := func() bool { _, err := os.Stat(filepath.Join(dir, "tried")); return err == nil }
			for i := 0; i < 150 || !tried(); i++ {
				if err := c.Set(&specs.LinuxResources{Devices: lists[(i*i+i/3)%len(lists)]}); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "changed"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if line := p.line(t); line != "done" {
				t.Error(line)
			}
		})
	}
}

// testDevices opens null for reading and writing, then kmsg for reading, then for writing.
func testDevices(t *testing.T, c *Cgroup, want string) {
	t.Helper()
	dir := t.TempDir()
	for name, minor := range map[string]uint32{"null": 3, "kmsg": 11} {
		path := filepath.Join(dir, name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			t.Skipf("device nodes cannot be made here: %v", err)
		}
		if f, err := os.OpenFile(path, os.O_RDWR, 0); errors.Is(err, unix.EACCES) {
			t.Skipf("%s is mounted nodev", dir)
		} else if err != nil {
			t.Skipf("device %s cannot be opened here even outside of a container: %v", name, err)
		} else {
			f.Close()
		}
	}
	p := run(t, c, `try() { if (eval "exec 3$1 '$2'") 2> /dev/null; then echo open; else echo EPERM; fi; }
		try '<>' "`+dir+`/null"; try '<' "`+dir+`/kmsg"; try '>' "`+dir+`/kmsg"`)
	got := p.line(t)
	for range 2 {
		got += ", " + p.line(t)
	}
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
