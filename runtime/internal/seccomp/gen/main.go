// Command gen writes the table of system call names and numbers, zsyscalls.go.
//
// The numbers of amd64, i386, arm64 and arm come from the zsysnum files of golang.org/x/sys at the version in go.mod.
// Those of x32 come from the kernel's header in Debian's linux-libc-dev (on an amd64 machine) and, past that header's
// newest one, from amd64.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/format"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// table maps the names of one ABI to their numbers.
type table map[string]int32

func main() {
	x32Header := flag.String("x32", "/usr/include/x86_64-linux-gnu/asm/unistd_x32.h", "the kernel's asm/unistd_x32.h")
	out := flag.String("o", "zsyscalls.go", "the file to write")
	flag.Parse()
	if err := run(*x32Header, *out); err != nil {
		log.Fatalln("gen:", err)
	}
}

func run(x32Header, out string) error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		return fmt.Errorf("find golang.org/x/sys: %w", err)
	}
	unix := filepath.Join(strings.TrimSpace(string(dir)), "unix")

	amd64, err := readGo(unix, "amd64")
	if err != nil {
		return err
	}
	i386, err := readGo(unix, "386")
	if err != nil {
		return err
	}
	x32, err := readX32(x32Header, amd64)
	if err != nil {
		return err
	}
	arm64, err := readGo(unix, "arm64")
	if err != nil {
		return err
	}
	arm, err := readGo(unix, "arm")
	if err != nil {
		return err
	}
	addOldMultiplexed(i386)
	addARMPrivate(arm)

	others, err := readOthers(unix)
	if err != nil {
		return err
	}
	source, err := format.Source(render([]table{amd64, i386, x32, arm64, arm}, others))
	if err != nil {
		return fmt.Errorf("format %s: %w", out, err)
	}
	if err := os.WriteFile(out, source, 0o644); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// placeholder matches what mips and sparc64 have in the place of calls that never were.
var placeholder = regexp.MustCompile(`^(unused|reserved)\d+$`)

// readGo reads the numbers of one GOARCH from golang.org/x/sys/unix.
func readGo(dir, arch string) (table, error) {
	t, err := readTable(filepath.Join(dir, "zsysnum_linux_"+arch+".go"), regexp.MustCompile(`^\s+SYS_(\w+)\s+= (\d+)$`))
	delete(t, "syscall_mask")          // arm: not a call, a mask
	delete(t, "arch_specific_syscall") // arm64: not a call, the start of a range
	maps.DeleteFunc(t, func(name string, _ int32) bool { return placeholder.MatchString(name) })
	return t, err
}

// readX32 reads the numbers of x32, without the bit that marks them in registers.
func readX32(header string, amd64 table) (table, error) {
	t, err := readTable(header, regexp.MustCompile(`^#define __NR_(\w+) \(__X32_SYSCALL_BIT \+ (\d+)\)$`))
	if err != nil {
		return nil, err
	}
	// From 424 on one number serves every ABI; 512 to 547 are calls of x32's own, and no later ones will be added there.
	newest := int32(0)
	for _, nr := range t {
		if nr < 512 {
			newest = max(newest, nr)
		}
	}
	for name, nr := range amd64 {
		// map_shadow_stack is for 64 bits only (arch/x86/entry/syscalls/syscall_64.tbl).
		if nr > newest && name != "map_shadow_stack" {
			t[name] = nr
		}
	}
	return t, nil
}

// readTable reads one name and number from every line of the file that matches.
func readTable(file string, line *regexp.Regexp) (table, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read system call numbers: %w", err)
	}
	t := make(table)
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		nr, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		t[strings.ToLower(m[1])] = int32(nr)
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("read %s: no system call numbers in it", file)
	}
	return t, nil
}

// readOthers returns the names of every GOARCH: a name that only other machines have is no mistake in a profile.
func readOthers(dir string) ([]table, error) {
	files, err := filepath.Glob(filepath.Join(dir, "zsysnum_linux_*.go"))
	if err != nil {
		return nil, err
	}
	var tables []table
	for _, file := range files {
		arch := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "zsysnum_linux_"), ".go")
		t, err := readGo(dir, arch)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// noDirect stands for a name that i386 knows only as a sub-call of socketcall(2) or ipc(2).
const noDirect = -2

// addOldMultiplexed adds the calls that never got a number of their own on i386.
func addOldMultiplexed(i386 table) {
	for _, name := range []string{"accept", "send", "recv", "semop", "semtimedop"} {
		i386[name] = noDirect
	}
}

// addARMPrivate adds the calls of the kernel's arch/arm/include/uapi/asm/unistd.h that are not in the common table.
func addARMPrivate(arm table) {
	const base = 0xf0000
	for i, name := range []string{"breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"} {
		arm[name] = base + 1 + int32(i)
	}
}

// render prints the tables as Go source, with the names of others beside their own. The names stand in one string, so
// that the table has no pointers.
func render(tables, others []table) []byte {
	all := make(map[string]struct{})
	for _, t := range slices.Concat(tables, others) {
		for name := range t {
			all[name] = struct{}{}
		}
	}
	names := slices.SortedFunc(maps.Keys(all), cmp.Compare)

	var b bytes.Buffer
	b.WriteString("// Code generated by gen; DO NOT EDIT.\n\npackage seccomp\n\n")
	b.WriteString("// syscallNames holds the names in byte order, one after the other.\nconst syscallNames = \"\" +\n")
	for i, name := range names {
		end := " +\n"
		if i == len(names)-1 {
			end = "\n\n"
		}
		fmt.Fprintf(&b, "\t%q%s", name, end)
	}
	b.WriteString("// syscallEnds[i] is where name i ends in syscallNames; name i+1 starts there.\nvar syscallEnds = [...]uint16{")
	end := 0
	for i, name := range names {
		if i%16 == 0 {
			b.WriteString("\n\t")
		}
		end += len(name)
		fmt.Fprintf(&b, "%d, ", end)
	}
	b.WriteString("\n}\n\n// syscallNumbers[i] are the numbers of name i: amd64, i386, x32, arm64, arm.\nvar syscallNumbers = [...][numABIs]int32{\n")
	for _, name := range names {
		b.WriteString("\t{")
		for _, t := range tables {
			nr, ok := t[name]
			switch {
			case !ok:
				b.WriteString("absent, ")
			case nr == noDirect:
				b.WriteString("multiplexed, ")
			default:
				fmt.Fprintf(&b, "%d, ", nr)
			}
		}
		fmt.Fprintf(&b, "}, // %s\n", name)
	}
	b.WriteString("}\n")
	return b.Bytes()
}
