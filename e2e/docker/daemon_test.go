package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// alias is the runtime under test by the name that daemon.json gives it.
const alias = "under-test"

// daemon is a Docker daemon, which starts a containerd of its own.
type daemon struct {
	bin string // directory of gosuda's shim
	log string // file
	cmd *exec.Cmd
}

// configure writes daemon.json. cli is gosudacon.
func (d *daemon) configure(cli string) error {
	runtimes := map[string]any{"gosudacon": map[string]any{"path": cli}}
	switch *runtimeFlag {
	case shimRuntime:
		runtimes[alias] = map[string]any{"runtimeType": shimRuntime}
	case runcRuntime:
		runtimes[alias] = map[string]any{"path": "/usr/sbin/runc"}
	default:
		runtimes[alias] = runtimes["gosudacon"]
	}
	config, err := json.Marshal(map[string]any{
		"runtimes":        runtimes,
		"default-runtime": alias, // for builds
		"live-restore":    true,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/etc/docker", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/etc/docker/daemon.json", config, 0o644)
}

// start returns when the daemon answers.
func (d *daemon) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command("dockerd")
	d.cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+os.Getenv("PATH"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); exec.Command("docker", "version").Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			d.printLog()
			return errors.Join(errors.New("start dockerd: it does not answer within a minute"), d.stop())
		}
	}
	return nil
}

// stop asks the daemon to end, and ends it when it does not. Its containers go on.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(30*time.Second, func() { d.cmd.Process.Kill() })
	err := d.cmd.Wait()
	if !late.Stop() {
		return errors.New("it did not end within thirty seconds")
	}
	return err
}

// lostOutputs is how often the daemon has closed a FIFO before it had opened it.
func (d *daemon) lostOutputs() int {
	text, _ := os.ReadFile(d.log)
	return strings.Count(string(text), "reading from a closed fifo")
}

// printLog shows the end of the log to who looks at a failure.
func (d *daemon) printLog() {
	text, err := os.ReadFile(d.log)
	lines := strings.SplitAfter(string(text), "\n")
	fmt.Fprintf(os.Stderr, "docker's log ends with: %v\n%s", err, strings.Join(lines[max(0, len(lines)-30):], ""))
}
