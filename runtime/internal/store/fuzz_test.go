package store

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// FuzzRecord: a record that is acted upon is one that Write could have written.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{`{"id":"c","pid":5,"pid_start_time":9,"rootfs":"/b/rootfs","cgroup_paths":{"":"/sys/fs/cgroup/c"},"exit":{"status":1}}`,
		`{"id":"d"}`, `{"id":"c","pid":-1}`, `{"id":"c","rootfs":"/."}`, `{"id":"c","rootfs":"x"}`, `{"id":"c","detached":{"poststop":[{"path":"/x","timeout":-1}]}}`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data, "c")
		if err != nil {
			return
		}
		if r.ID != "c" || r.Pid < 0 || r.Rootfs != "" && (!filepath.IsAbs(r.Rootfs) || filepath.Clean(r.Rootfs) == "/") {
			t.Fatalf("accepted %+v", r)
		}
		text, err := json.Marshal(r)
		if err != nil {
			return // a time that JSON has no form for
		}
		again, err := parse(text, "c")
		if err != nil || !reflect.DeepEqual(stripTimes(r), stripTimes(again)) {
			t.Fatalf("wrote %+v, read %+v, %v", r, again, err)
		}
	})
}

// stripTimes: their zones may be written in several ways.
func stripTimes(r *Record) Record {
	c := *r
	c.Created = c.Created.UTC().Round(0)
	if c.Exit != nil {
		exit := *c.Exit
		exit.At = exit.At.UTC().Round(0)
		c.Exit = &exit
	}
	// Empty and missing are the same to all who read them.
	if len(c.CgroupPaths) == 0 {
		c.CgroupPaths = nil
	}
	if len(c.Annotations) == 0 {
		c.Annotations = nil
	}
	if c.Detached != nil {
		d := *c.Detached
		if text, err := json.Marshal(d); err == nil {
			d = Detached{Config: string(text)}
		}
		c.Detached = &d
	}
	return c
}

// FuzzStat: a process may call itself what it likes; its start time is still the 22nd field.
func FuzzStat(f *testing.F) {
	f.Add("sleep", uint64(123))
	f.Add("a) R 1 2 3 (b", uint64(0))
	f.Add("\n) (", uint64(1<<63))
	f.Fuzz(func(t *testing.T, name string, start uint64) {
		text := "1 (" + name + ") S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 " + strconv.FormatUint(start, 10) + " 1 2 3"
		got, err := parseStat([]byte(text))
		if err != nil || got != (stat{state: 'S', start: start}) {
			t.Fatalf("%q: %+v, %v", text, got, err)
		}
		parseStat([]byte(name)) // any text is read or refused
	})
}
