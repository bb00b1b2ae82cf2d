package cli

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func TestParse(t *testing.T) {
	table := []option{
		{long: "tty", short: "t"}, {long: "interactive", short: "i"}, {long: "user", short: "u", kind: text, value: "UID"},
		{long: "env", short: "e", kind: repeated, value: "E"}, {long: "count", kind: number, value: "N"}, {long: "every", kind: duration, value: "D"},
	}
	for _, tc := range []struct {
		args     string
		inOrder  bool
		want     options
		operands string
		err      string
	}{
		{args: "", want: options{}},
		{args: "-t a --user 5 b", want: options{"tty": {"true"}, "user": {"5"}}, operands: "a b"},
		{args: "-t a --user 5 b", inOrder: true, want: options{"tty": {"true"}}, operands: "a --user 5 b"},
		{args: "-- -t a", want: options{}, operands: "-t a"},
		{args: "a -- -t", want: options{}, operands: "a -t"},
		{args: "-", want: options{}, operands: "-"},
		{args: "-it -u5 a", want: options{"tty": {"true"}, "interactive": {"true"}, "user": {"5"}}, operands: "a"},
		{args: "-tiu 5", want: options{"tty": {"true"}, "interactive": {"true"}, "user": {"5"}}},
		{args: "-tty -user=x", want: options{"tty": {"true"}, "user": {"x"}}},
		{args: "--tty=0 --tty=T", want: options{"tty": {"true"}}},
		{args: "--user a --user b", want: options{"user": {"b"}}},
		{args: "-e A=1 --env=B=2", want: options{"env": {"A=1", "B=2"}}},
		{args: "--user -t", want: options{"user": {"-t"}}},
		{args: "--count -1 --every 1m30s", want: options{"count": {"-1"}, "every": {"1m30s"}}},
		{args: "--count 1x", err: `option --count: invalid value "1x"`},
		{args: "--every 5", err: `option --every: invalid value "5"`},
		{args: "--tty=maybe", err: `option --tty: invalid value "maybe"`},
		{args: "-x", err: "unknown option -x"},
		{args: "-tx", err: "unknown option -tx"},
		{args: "--t=1x", err: `invalid value "1x"`},
		{args: "--user", err: "option --user needs a value: UID"},
		{args: "-tu", err: "option -u needs a value: UID"},
	} {
		o := options{}
		operands, err := o.parse(table, strings.Fields(tc.args), tc.inOrder)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %v, want %s", tc.args, err, tc.err)
			}
			continue
		}
		if err != nil || !maps.EqualFunc(o, tc.want, slices.Equal[[]string]) || strings.Join(operands, " ") != tc.operands {
			t.Errorf("%q: %v %q %v, want %v %q", tc.args, o, operands, err, tc.want, tc.operands)
		}
	}
}

// TestCommandTable: what help prints is complete and unambiguous.
func TestCommandTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.name] || c.help == "" || c.run == nil || (c.operands == "") != (c.max == 0) {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
		names := map[string]bool{"help": true, "h": true}
		for _, o := range c.table() {
			if names[o.long] || names[o.short] && o.short != "" || (o.kind == toggle) != (o.value == "") || len(o.short) > 1 {
				t.Errorf("%s: %+v", c.name, o)
			}
			names[o.long], names[o.short] = true, true
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"-1": -1, "0": 0, "1048576": 1 << 20, "512M": 512 << 20, "512m": 512 << 20, "64k": 64 << 10, "64KB": 64 << 10, "64KiB": 64 << 10,
		"1.5g": 3 << 29, "2t": 2 << 40, "10b": 10, "1 GiB": 1 << 30, "1p": 1 << 50,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-2", "1x", "1mm", "1ibm", "m", "1e30", "9999999p", "1 2", "NaN", "Inf"} {
		if n, err := parseBytes(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{"9": 9, "KILL": 9, "SIGKILL": 9, "term": 15, "sigusr1": 10, "0": 0} {
		if got, err := parseSignal(text); err != nil || int(got) != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	if _, err := parseSignal("FLY"); err == nil {
		t.Error("FLY is a signal")
	}
}

func TestTable(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	states := []containerState{{ID: "a", Pid: 7, Status: "running", Bundle: "/b", Created: at, Owner: "root"}}
	want := "ID          PID         STATUS      BUNDLE      CREATED                          OWNER\n" +
		"a           7           running     /b          2026-01-02T03:04:05.000000006Z   root\n"
	if got := table(states, false); got != want {
		t.Errorf("\n%q\n%q", got, want)
	}
	if got := table(states, true); !strings.Contains(got, "\x1b[32mrunning\x1b[0m     /b") {
		t.Errorf("%q", got)
	}
}

func TestOnlyPids(t *testing.T) {
	out := "UID   PID CMD\nroot    1 init\nroot   42 sleep 1\nroot  142 sleep 42\n"
	if got, err := onlyPids(out, []int{42}); err != nil || got != "UID   PID CMD\nroot   42 sleep 1\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := onlyPids("CMD\nx\n", nil); err == nil {
		t.Error("no column PID and no error")
	}
}

func TestSubCgroups(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want map[string]string
		err  string
	}{
		{nil, nil, ""},
		{[]string{"a/b"}, map[string]string{"": "a/b"}, ""},
		{[]string{"cpu,memory:a", "pids:b"}, map[string]string{"cpu": "a", "memory": "a", "pids": "b"}, ""},
		{[]string{"a", "cpu:b"}, nil, "names no controller"},
		{[]string{"cpu:a", "cpu:b"}, nil, "is given twice"},
		{[]string{":a"}, nil, "is empty"},
	} {
		got, err := subCgroups(tc.args)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %v, want %s", tc.args, err, tc.err)
			}
		} else if err != nil || !maps.Equal(got, tc.want) {
			t.Errorf("%q: %v, %v", tc.args, got, err)
		}
	}
}

// TestStatsV2: figures of cgroup v2 in runc's form.
func TestStatsV2(t *testing.T) {
	s := statsOf(&engine.Stats{V2: &engine.StatsV2{
		Pids: engine.StatsV2{}.Pids, CPU: engine.StatsV2{}.CPU,
		Memory:     engine.MemoryV2{Anon: 5, File: 7, Usage: 100, UsageLimit: 1000, MaxUsage: 200, SwapUsage: 10, SwapLimit: 50},
		IOPressure: &engine.Pressure{Some: &engine.PressureData{Avg10: 1.5, Total: 9}},
	}})
	if u := s.Memory.Usage; u.Limit != 1000 || u.Usage != 100 || u.Max != 200 {
		t.Errorf("usage %+v", u)
	}
	if w := s.Memory.Swap; w.Limit != 1050 || w.Usage != 110 {
		t.Errorf("swap %+v", w)
	}
	if s.Memory.Cache != 7 || s.Memory.Raw["anon"] != 5 {
		t.Errorf("memory %+v", s.Memory)
	}
	if s.Blkio.PSI.Some.Avg10 != 1.5 || s.Blkio.PSI.Some.Total != 9 {
		t.Errorf("pressure %+v", s.Blkio.PSI)
	}
	if sum(noLimit, 1) != noLimit || sum(1, noLimit) != noLimit || uint64(math.MaxUint64) != noLimit {
		t.Error("no limit plus something is a limit")
	}
}

// TestSpec: the example is a config that the engine takes, and its rootless form has no limits and maps the user.
func TestSpec(t *testing.T) {
	for _, cgroup2 := range []bool{false, true} {
		s := exampleSpec(cgroup2)
		makeRootless(s, 1000, 100)
		for _, n := range s.Linux.Namespaces {
			if n.Type == specs.NetworkNamespace {
				t.Error("a network namespace")
			}
		}
		if s.Linux.Resources != nil || s.Linux.UIDMappings[0].HostID != 1000 || s.Linux.GIDMappings[0].HostID != 100 {
			t.Errorf("%+v", s.Linux)
		}
		data, err := json.Marshal(s)
		if err != nil || strings.Contains(string(data), "gid=5") || !strings.Contains(string(data), `"source":"/sys"`) {
			t.Errorf("%v %s", err, data)
		}
		if last := s.Linux.Namespaces[len(s.Linux.Namespaces)-2]; cgroup2 != (last.Type == specs.CgroupNamespace) {
			t.Errorf("cgroup2 %t: %v", cgroup2, s.Linux.Namespaces)
		}
	}
}
