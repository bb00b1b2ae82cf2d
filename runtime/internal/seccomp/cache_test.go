package seccomp

import (
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCache(t *testing.T) {
	c := NewCache(2)
	o := Options{Arch: AMD64}
	profile := func(name string) *specs.LinuxSeccomp {
		return parseJSON(t, fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":[%q],"action":"SCMP_ACT_ALLOW"}]}`, name))
	}
	get := func(name string) *Filter {
		t.Helper()
		f, err := c.Compile(profile(name), o)
		if err != nil {
			t.Fatal(err)
		}
		if want := mustCompile(t, profile(name), AMD64); !reflect.DeepEqual(f.Insns, want.Insns) {
			t.Errorf("%s: another filter than that of Compile", name)
		}
		return f
	}
	a, b := get("read"), get("write")
	if get("read") != a || get("write") != b {
		t.Error("compiled again what was in the cache")
	}
	get("read")
	get("close") // pushes out write, used longest ago
	if get("read") != a {
		t.Error("the filter used last is gone")
	}
	if get("write") == b {
		t.Error("kept more filters than it should")
	}
	if len(c.entries) != 2 {
		t.Errorf("%d entries", len(c.entries))
	}
	if _, err := c.Compile(&specs.LinuxSeccomp{DefaultAction: "x"}, o); err == nil {
		t.Error("no error for a bad profile")
	}
	if f, err := c.Compile(nil, o); f != nil || err != nil {
		t.Errorf("no profile: %v, %v", f, err)
	}
	var none Cache
	if f, err := none.Compile(profile("read"), o); err != nil || len(f.Insns) == 0 || len(none.entries) != 0 {
		t.Errorf("zero cache: %v, %v", f, err)
	}
}

func TestCacheConcurrently(t *testing.T) {
	c := NewCache(3)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{syscallName((i + j) % 5)}, Action: specs.ActAllow}}}
				f, err := c.Compile(p, Options{Arch: AMD64})
				if err != nil || !reflect.DeepEqual(f.Insns, mustCompile(t, p, AMD64).Insns) {
					t.Errorf("Compile: %v, %v", f, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestCacheKey changes every value of a profile, found by reflection, and wants another key each time.
func TestCacheKey(t *testing.T) {
	errno := uint(1)
	p := &specs.LinuxSeccomp{
		DefaultAction: "a", DefaultErrnoRet: &errno, Architectures: []specs.Arch{"b", "c"}, Flags: []specs.LinuxSeccompFlag{"d"},
		ListenerPath: "e", ListenerMetadata: "f",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"g", "h"}, Action: "i", ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 2, ValueTwo: 3, Op: "j"}}}, {Names: []string{"k"}, Action: "l", ErrnoRet: &errno}},
	}
	var o Options
	seen := map[string]string{cacheKey(p, o): "unchanged"}
	check := func(what string) {
		t.Helper()
		key := cacheKey(p, o)
		if other, ok := seen[key]; ok {
			t.Errorf("%s: the key of %s", what, other)
		}
		seen[key] = what
	}
	var change func(path string, v reflect.Value)
	change = func(path string, v reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		restore := func() { v.Set(old) }
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				change(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			for i := range v.Len() {
				change(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
			}
			if v.Len() > 0 {
				v.Set(old.Slice(0, v.Len()-1))
				check(path + " shorter")
				restore()
			}
			v.Set(reflect.Append(old, reflect.Zero(v.Type().Elem())))
			check(path + " longer")
			restore()
		case reflect.Pointer:
			v.Set(reflect.Zero(v.Type()))
			check(path + " nil")
			n := uint(7)
			v.Set(reflect.ValueOf(&n))
			check(path + " changed")
			restore()
		case reflect.String:
			v.SetString(old.String() + "x")
			check(path)
			v.SetString("")
			check(path + " empty")
			restore()
		case reflect.Uint, reflect.Uint8, reflect.Uint32, reflect.Uint64:
			v.SetUint(old.Uint() + 200)
			check(path)
			restore()
		default:
			t.Fatalf("%s: a %s", path, v.Kind())
		}
	}
	change("profile", reflect.ValueOf(p).Elem())
	change("options", reflect.ValueOf(&o).Elem())

	p.Flags = nil
	check("no flags") // not the same as an empty list, which change has tried
}
