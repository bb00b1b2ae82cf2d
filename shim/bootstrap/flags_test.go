package bootstrap

import (
	"errors"
	"strings"
	"testing"
)

func TestParseFlagsOfContainerd(t *testing.T) {
	want := Flags{Namespace: "k8s.io", Address: "/run/c.sock", PublishBinary: "/usr/bin/containerd", ID: "abc", Debug: true, Verb: VerbStart}
	for _, line := range []string{
		"-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -debug start",
		"--namespace k8s.io --address=/run/c.sock --publish-binary /usr/bin/containerd --id abc --debug start --later",
	} {
		if got, err := ParseFlags(strings.Fields(line)); err != nil || got != want {
			t.Errorf("%s:\ngot %+v, %v", line, got, err)
		}
	}
	for line, want := range map[string]Flags{
		"-namespace n -id i -bundle /b delete":           {Namespace: "n", ID: "i", Bundle: "/b", Verb: VerbDelete},
		"-namespace n -id i -address a":                  {Namespace: "n", ID: "i", Address: "a", Verb: VerbServe},
		"-namespace n -id i -socket /s -debug-socket /d": {Namespace: "n", ID: "i", Socket: "/s", DebugSocket: "/d"},
		"-info":    {Info: true},
		"-v":       {Version: true},
		"-version": {Version: true},
	} {
		if got, err := ParseFlags(strings.Fields(line)); err != nil || got != want {
			t.Errorf("%s:\ngot %+v, %v", line, got, err)
		}
	}
}

func TestParseFlagsRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"-frobnicate start":                  "-frobnicate",
		"-namespace":                         "needs an argument",
		"-namespace n -id i stop":            `unknown verb "stop"`,
		"-id i start":                        "-namespace is missing",
		"-namespace n start":                 "-id is missing",
		"":                                   "-namespace is missing",
		"-namespace n -id ../x delete":       `invalid name "../x"`,
		"-namespace .. -id x delete":         `invalid name ".."`,
		"-namespace n -id . -bundle / start": `invalid name "."`,
	} {
		if _, err := ParseFlags(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	if _, err := ParseFlags([]string{"-h"}); !errors.Is(err, ErrHelp) {
		t.Errorf("-h: got %v", err)
	}
}
