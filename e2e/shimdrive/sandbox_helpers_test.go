package shimdrive

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1stats "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/v2/core/containers"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

type (
	ctxt      = context.Context
	container = containers.Container
)

// bundleContext is a context for what is done when the test's is over.
func (p *sandbox) bundleContext() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p.t.Cleanup(cancel)
	return ctx
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func readLink(t *testing.T, name string) string {
	t.Helper()
	link, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// children are the child processes of a process.
func children(pid int) (list []string) {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		list = append(list, strings.Fields(string(text))...)
	}
	return list
}

// processesIn is how many processes figures count.
func processesIn(t *testing.T, data *anypb.Any) uint64 {
	t.Helper()
	var v1 v1stats.Metrics
	var v2 v2stats.Metrics
	if data.TypeUrl == "io.containerd.cgroups.v1.Metrics" {
		if err := proto.Unmarshal(data.Value, &v1); err != nil {
			t.Fatal(err)
		}
		return v1.GetPids().GetCurrent()
	}
	if err := proto.Unmarshal(data.Value, &v2); err != nil {
		t.Fatal(err)
	}
	return v2.GetPids().GetCurrent()
}
