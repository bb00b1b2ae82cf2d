package task

import (
	"reflect"
	"strings"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// Where the generated messages of containerd/cgroups have another name or another place for a figure.
var elsewhere = map[string]string{
	"StatsV1.OOMControl":     "MemoryOomControl",
	"CPUV1.Total":            "Usage.Total",
	"CPUV1.Kernel":           "Usage.Kernel",
	"CPUV1.User":             "Usage.User",
	"CPUV1.PerCPU":           "Usage.PerCPU",
	"CPUV1.Periods":          "Throttling.Periods",
	"CPUV1.ThrottledPeriods": "Throttling.ThrottledPeriods",
	"CPUV1.ThrottledTime":    "Throttling.ThrottledTime",
	"BlkioV1.ServiceBytes":   "IoServiceBytesRecursive",
	"BlkioV1.Serviced":       "IoServicedRecursive",
	"StatsV2.IO":             "Io.Usage",
	"StatsV2.IOPressure":     "Io.PSI",
	"CPUV2.Pressure":         "PSI",
	"MemoryV2.Pressure":      "PSI",
}

// Every figure is decoded, by the messages that containerd decodes it with, as what it was.
func TestStatsAreThoseOfContainerd(t *testing.T) {
	full := &engine.Stats{V1: &engine.StatsV1{}, V2: &engine.StatsV2{}}
	next := 1
	fill(reflect.ValueOf(full).Elem(), &next)

	for _, c := range []struct {
		stats   *engine.Stats
		ours    any
		message proto.Message
	}{
		{&engine.Stats{V1: full.V1}, full.V1, &v1.Metrics{}},
		{&engine.Stats{V2: full.V2}, full.V2, &v2.Metrics{}},
		{&engine.Stats{V1: &engine.StatsV1{}}, &engine.StatsV1{}, &v1.Metrics{}},
		{&engine.Stats{V2: &engine.StatsV2{}}, &engine.StatsV2{}, &v2.Metrics{}},
	} {
		a, err := EncodeStats(c.stats)
		if err != nil {
			t.Fatal(err)
		}
		if want := string(c.message.ProtoReflect().Descriptor().FullName()); a.TypeURL != want {
			t.Errorf("type %s, want %s", a.TypeURL, want)
		}
		if err := proto.Unmarshal(a.Value, c.message); err != nil {
			t.Fatal(err)
		}
		if text := prototext.Format(c.message); strings.Contains(text, "unknown") {
			t.Errorf("unknown fields: %s", text)
		}
		compare(t, reflect.ValueOf(c.ours).Elem(), reflect.ValueOf(c.message).Elem())
	}
	if _, err := EncodeStats(&engine.Stats{}); err == nil {
		t.Error("no stats were encoded")
	}
}

// fill sets every figure to another number, every text to another letter.
func fill(v reflect.Value, next *int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), next)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), next)
		fill(v.Index(1), next)
	case reflect.String:
		v.SetString(strings.Repeat("x", *next%50+1))
		*next++
	case reflect.Uint64, reflect.Uint32:
		v.SetUint(uint64(*next) * 1_000_003)
		*next++
	case reflect.Float64:
		v.SetFloat(float64(*next) + 0.25)
		*next++
	default:
		panic("no way to fill a " + v.Kind().String())
	}
}

// compare checks that theirs has every figure of ours.
func compare(t *testing.T, ours, theirs reflect.Value) {
	t.Helper()
	for i := range ours.NumField() {
		name := ours.Type().Name() + "." + ours.Type().Field(i).Name
		path, ok := elsewhere[name]
		if !ok {
			path = ours.Type().Field(i).Name
		}
		compareValues(t, name, ours.Field(i), follow(t, name, theirs, path))
	}
}

// follow returns the field at a path, whose names are compared without regard to case.
func follow(t *testing.T, name string, v reflect.Value, path string) reflect.Value {
	t.Helper()
	for part := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.IsValid() {
			v = v.FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, part) })
		}
		if !v.IsValid() {
			t.Fatalf("%s: there is no %s", name, path)
		}
	}
	return v
}

func compareValues(t *testing.T, name string, ours, theirs reflect.Value) {
	t.Helper()
	for _, v := range []*reflect.Value{&ours, &theirs} {
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			*v = v.Elem()
		}
	}
	switch ours.Kind() {
	case reflect.Pointer:
		if !theirs.IsNil() {
			t.Errorf("%s: got %v for nothing", name, theirs)
		}
	case reflect.Struct:
		compare(t, ours, theirs)
	case reflect.Slice:
		if ours.Len() != theirs.Len() {
			t.Errorf("%s: %d of %d entries", name, theirs.Len(), ours.Len())
			return
		}
		for i := range ours.Len() {
			compareValues(t, name, ours.Index(i), theirs.Index(i))
		}
	default:
		if !ours.Equal(theirs) {
			t.Errorf("%s: got %v, want %v", name, theirs, ours)
		}
	}
}
