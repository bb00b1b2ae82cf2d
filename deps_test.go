// Package gosudacon_test states which package may know which other, and what the one binary may cost. Every shim process pays for what
// is linked: with start-up time at every container, and with memory for as long as it lives.
package gosudacon_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/gosuda/gosudacon"
	binary = module + "/cmd/containerd-shim-gosuda-v2"
)

// layers are the parts of the tree from the top down; a package may import packages of its own layer and of lower ones.
var layers = []struct {
	name string
	in   func(pkg string) bool
}{
	{"cmd", below("cmd")},
	{"shim and cli", func(pkg string) bool { return below("shim")(pkg) || below("cli")(pkg) }},
	{"runtime/engine", below("runtime/engine")},
	{"runtime/internal", below("runtime/internal")},
	{"internal", below("internal")},
}

func below(dir string) func(string) bool {
	return func(pkg string) bool {
		return pkg == module+"/"+dir || strings.HasPrefix(pkg, module+"/"+dir+"/")
	}
}

// forbidden are imports that break what a part of the tree is for.
var forbidden = []struct {
	from    string   // directory, with what is below it
	imports []string // import paths; "x/..." also what is below x
	why     string
}{
	{"runtime", []string{"github.com/containerd/...", "google.golang.org/..."},
		"the engine is also the command line's and other programs': containerd's protocol is the shim's business"},
	{"runtime/internal/lifecycle", impure, "which state follows which is decided without the world, so that it can be tested exhaustively"},
	{"runtime/internal/plan", impure, "a plan is computed from the spec and the probed facts alone, so that explain and the golden tests show what will happen"},
	{"runtime/internal/seccomp", impure, "a filter is computed from the profile alone, so that it can be tested against every call"},
	{"shim", []string{module + "/runtime/internal/...", module + "/cli/..."}, "the engine's public API is what the shim, too, has to do with"},
	{"cli", []string{module + "/runtime/internal/...", module + "/shim/...", "github.com/containerd/...", "google.golang.org/..."},
		"the command line works without containerd"},
}

// impure are the packages through which code can see the world.
var impure = []string{"os", "os/...", "io/ioutil", "net", "net/...", "syscall", "time", "golang.org/x/sys/...", "math/rand", "math/rand/..."}

// unsafeMayBeIn are the packages that may, with those below them, import unsafe and use go:linkname.
var unsafeMayBeIn = map[string]string{
	"runtime/internal/launch/rawchild": "the code between clone and execve, where nothing of Go's runtime works",
	"runtime/internal/sys":             "system calls that golang.org/x/sys lacks, one small function each",
}

// notLinked are packages that no gosuda process may contain, with what each would cost.
var notLinked = map[string]string{
	"net/http":               "3 MB and 0.5 ms of initialisation; nothing here speaks HTTP",
	"crypto/tls":             "certificates and key schedules for connections that are all unix sockets",
	"crypto/x509":            "parses root certificates lazily but initialises tables at start",
	"google.golang.org/grpc": "ttrpc replaces it",
	"html/template":          "comes with traces of x/net, which come with gRPC",
	"text/template":          "disables the linker's dead code elimination of methods",
	"encoding/xml":           "nothing here reads XML",
	"go/ast":                 "source code is for tools",
	"testing":                "test helpers do not belong into the binary",
	"expvar":                 "comes with net/http",
	"github.com/containerd/containerd/v2/pkg/shim":    "measured: it costs start-up time and memory, and its publisher breaks the order of events",
	"github.com/containerd/containerd/v2/core/mount":  "the engine mounts by itself",
	"github.com/containerd/typeurl/v2":                "a registry of every type; the shim knows the five it reads",
	"google.golang.org/protobuf/reflect/protoreflect": "parses descriptors at start, 1 ms with what needs it; see internal/wire",
	"github.com/containerd/ttrpc":                     "links protobuf and gRPC's status: 0.4 of what start takes, 0.45 MiB in every shim; see shim/rpc",
	"github.com/sirupsen/logrus":                      "comes with ttrpc; log/slog is enough",
	"github.com/opencontainers/runc/libcontainer":     "the engine is not runc",
	"github.com/prometheus/client_golang/prometheus":  "nothing here is scraped",
	"go.opentelemetry.io/otel":                        "nothing here is traced",
}

// Budgets of the binary. They are caps, not aims: raise one only with the reason in the commit.
const (
	maxSize = 8 << 20 // bytes, stripped, as make build makes it
	// What all packages' initialisation may allocate, and how often: deterministic, unlike its time.
	maxInitBytes  = 50 << 10
	maxInitAllocs = 300
	maxInitMillis = 20.0 // of time, summed; generous, because a busy machine must not fail the test
)

// listed is one package as go list -json prints it.
type listed struct {
	ImportPath, Name, Dir string
	Imports               []string
	GoFiles               []string
	Standard              bool
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "no_grpc", "-json=ImportPath,Name,Dir,Imports,GoFiles,Standard"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// matches tells whether path is the pattern, or below it when that ends in "/...".
func matches(path, pattern string) bool {
	parent, all := strings.CutSuffix(pattern, "/...")
	return path == parent || all && strings.HasPrefix(path, parent+"/")
}

func TestImportsPointDown(t *testing.T) {
	layerOf := func(pkg string) int {
		return slices.IndexFunc(layers, func(l struct {
			name string
			in   func(string) bool
		}) bool {
			return l.in(pkg)
		})
	}
	for _, p := range goList(t, "./...") {
		from := layerOf(p.ImportPath)
		if from < 0 {
			if p.ImportPath != module {
				t.Errorf("%s belongs to no layer: say in this test what it is", p.ImportPath)
			}
			continue
		}
		for _, i := range p.Imports {
			if to := layerOf(i); to >= 0 && to < from {
				t.Errorf("%s (%s) imports %s (%s): imports point down only", p.ImportPath, layers[from].name, i, layers[to].name)
			}
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	for _, p := range goList(t, "./...") {
		for _, rule := range forbidden {
			if !below(rule.from)(p.ImportPath) || p.Name == "main" { // a generator is not linked
				continue
			}
			for _, i := range p.Imports {
				for _, pattern := range rule.imports {
					if matches(i, pattern) {
						t.Errorf("%s imports %s: %s", p.ImportPath, i, rule.why)
					}
				}
			}
		}
	}
}

var linkname = regexp.MustCompile(`(?m)^//go:linkname `)

func TestUnsafeStaysWhereItIs(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if slices.ContainsFunc(slices.Collect(keys(unsafeMayBeIn)), func(dir string) bool { return below(dir)(p.ImportPath) }) {
			continue
		}
		if slices.Contains(p.Imports, "unsafe") {
			t.Errorf("%s imports unsafe; only %v may", p.ImportPath, slices.Sorted(keys(unsafeMayBeIn)))
		}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if linkname.Match(text) {
				t.Errorf("%s/%s uses go:linkname; only %v may", p.ImportPath, name, slices.Sorted(keys(unsafeMayBeIn)))
			}
		}
	}
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestNoInitFunctions: main wires the parts by hand; work at start-up that nobody sees in main is work that every shim pays.
func TestNoInitFunctions(t *testing.T) {
	init := regexp.MustCompile(`(?m)^func init\(\)`)
	for _, p := range goList(t, "./...") {
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if init.Match(text) {
				t.Errorf("%s/%s has an init function", p.ImportPath, name)
			}
		}
	}
}

// TestEveryPackageSaysWhatItDoes: the first thing to read in a package is the sentence that says what it does.
func TestEveryPackageSaysWhatItDoes(t *testing.T) {
	for _, p := range goList(t, "./...") {
		says := len(p.GoFiles) == 0 // tests only
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			says = says || f.Doc.Text() != ""
		}
		if !says {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestLinkedPackages(t *testing.T) {
	for _, p := range goList(t, "-deps", binary) {
		for name, why := range notLinked {
			if p.ImportPath == name {
				t.Errorf("%s is linked: %s", p.ImportPath, why)
			}
		}
	}
}

// build makes the binary as make build does and returns its path.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "containerd-shim-gosuda-v2")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "no_grpc", "-ldflags", "-s -w", "-o", path, binary)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func TestBinaryIsSmall(t *testing.T) {
	info, err := os.Stat(build(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the binary has %.1f MB; the cap is %.1f MB", float64(info.Size())/1e6, float64(maxSize)/1e6)
	if info.Size() > maxSize {
		t.Errorf("the binary has %d bytes, %d more than the cap", info.Size(), info.Size()-maxSize)
	}
}

// inittrace matches a line such as "init internal/godebug @0.1 ms, 0.01 ms clock, 776 bytes, 11 allocs".
var inittrace = regexp.MustCompile(`^init (\S+) @\S+ ms, (\S+) ms clock, (\d+) bytes, (\d+) allocs`)

func TestInitialisationIsCheap(t *testing.T) {
	cmd := exec.Command(build(t), "-v")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("run -v: %v\n%s", err, &stderr)
	}
	var millis float64
	var size, allocs, packages int
	var costly []string
	for lines := bufio.NewScanner(&stderr); lines.Scan(); {
		m := inittrace.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		clock, err1 := strconv.ParseFloat(m[2], 64)
		b, err2 := strconv.Atoi(m[3])
		a, err3 := strconv.Atoi(m[4])
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		packages, millis, size, allocs = packages+1, millis+clock, size+b, allocs+a
		if b > maxInitBytes/20 {
			costly = append(costly, lines.Text())
		}
	}
	if packages == 0 {
		t.Fatalf("no lines of inittrace in %q", &stderr)
	}
	t.Logf("%d packages initialise with %d bytes in %d allocations and %.2f ms", packages, size, allocs, millis)
	if size > maxInitBytes || allocs > maxInitAllocs || millis > maxInitMillis {
		t.Errorf("initialisation takes %d bytes (cap %d), %d allocations (cap %d), %.2f ms (cap %.0f); the most costly:\n%s",
			size, maxInitBytes, allocs, maxInitAllocs, millis, maxInitMillis, strings.Join(costly, "\n"))
	}
}
