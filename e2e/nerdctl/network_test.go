package nerdctl

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// serve is a script that answers HTTP on port 80 with one page.
func serve(page string) []string {
	return []string{"sh", "-c", "mkdir /www; echo " + page + " >/www/index.html; exec httpd -f -p 80 -h /www"}
}

// TestPublish: nerdctl's OCI hooks make a container's network between create and start, and undo it when it is deleted.
func TestPublish(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--publish", "127.0.0.1:18080:80", "--publish", "18443:443/udp"}, serve("hello")...)
	client.Equal(t, "ports", must(t, "port", name), "80/tcp -> 127.0.0.1:18080\n443/udp -> 0.0.0.0:18443")
	client.Equal(t, "port", must(t, "port", name, "80/tcp"), "127.0.0.1:18080")
	client.Eventually(t, "the published port answers", func() bool { return get("127.0.0.1:18080") == "hello\n" })
	address := inspect(t, name, "{{.NetworkSettings.IPAddress}}")
	client.Equal(t, "page at "+address, get(address+":80"), "hello\n")
	client.Equal(t, "lease of "+address, exists("/var/lib/cni/networks/bridge/"+address), true)
	if rules := natRules(t); !strings.Contains(rules, address+":80") {
		t.Errorf("no rule for %s:\n%s", address, rules)
	}

	must(t, "stop", "--time", "1", name)
	must(t, "start", name)
	client.Eventually(t, "the published port answers again", func() bool { return get("127.0.0.1:18080") == "hello\n" })

	must(t, "rm", "--force", name)
	client.Equal(t, "page after the end", get("127.0.0.1:18080"), "")
	if rules := natRules(t); strings.Contains(rules, address+":80") {
		t.Errorf("rules for %s are left:\n%s", address, rules)
	}
	client.Equal(t, "lease after the end", exists("/var/lib/cni/networks/bridge/"+address), false)
}

// TestHookFails: a network that cannot be made ends the create, with the hook's words, and the container is not there.
func TestHookFails(t *testing.T) {
	t.Parallel()
	first := detached(t, []string{"--net", "bridge", "--ip", "10.4.0.77"}, "sleep", "1000")
	second := newName(t)
	all := append([]string{"run", "--detach", "--name", second}, options([]string{"--net", "bridge", "--ip", "10.4.0.77"})...)
	refused(t, "10.4.0.77", append(all, testImage, "sleep", "1000")...)
	must(t, "rm", "--force", first)
	must(t, "start", second)
	client.Equal(t, "address", inspect(t, second, "{{.NetworkSettings.IPAddress}}"), "10.4.0.77")
}

// TestCompose brings up two services in a network of their own, in which one finds the other by its name.
func TestCompose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	project := filepath.Join(dir, "compose.yaml")
	text := fmt.Sprintf(`
name: %s
services:
  web:
    image: %s
    runtime: %s
    command: ["sh", "-c", "mkdir /www; echo composed >/www/index.html; exec httpd -f -p 80 -h /www"]
    ports: ["127.0.0.1:18081:80"]
    stop_signal: SIGKILL
  client:
    image: %[2]s
    runtime: %[3]s
    depends_on: [web]
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
`, shared.daemon.Namespace, testImage, *runtimeFlag)
	if err := os.WriteFile(project, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) string {
		t.Helper()
		return must(t, append([]string{"compose", "--file", project}, args...)...)
	}
	compose("up", "--detach")
	down := func() { compose("down", "--volumes") }
	defer func() {
		if down != nil {
			down()
		}
	}()
	client.Eventually(t, "the service answers", func() bool { return get("127.0.0.1:18081") == "composed\n" })
	if services := strings.Fields(compose("ps", "--services")); !slices.Contains(services, "client") || !slices.Contains(services, "web") {
		t.Errorf("services are %q", services)
	}
	if ip := compose("exec", "--no-TTY", "client", "awk", "$2 == \"web\" { print $1 }", "/etc/hosts"); net.ParseIP(ip) == nil || get(ip+":80") != "composed\n" {
		t.Errorf("the client finds web at %q", ip)
	}
	compose("stop", "client")
	compose("start", "client")
	down()
	down = nil
	client.Equal(t, "containers after down", compose("ps", "--all", "--quiet"), "")
	client.Equal(t, "page after down", get("127.0.0.1:18081"), "")
}

// get returns the page at an address, "" when there is none.
func get(address string) string {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + "/")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return string(text)
}

func natRules(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "iptables", "--table", "nat", "--list-rules").CombinedOutput()
	if err != nil {
		t.Fatalf("iptables: %v: %s", err, out)
	}
	return string(out)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
