package cli

import (
	"context"
	"encoding/json"
	"os/user"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// containerState is runc's form of a state: runtime-spec's, and a few fields more.
type containerState struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"` // 0 when stopped
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func stateOf(d *engine.Detached) (containerState, error) {
	s, err := d.Snapshot()
	if err != nil {
		return containerState{}, err
	}
	return containerState{Version: specs.Version, ID: s.ID, Pid: s.Pid, Status: string(s.Status), Bundle: s.Bundle, Rootfs: s.Root,
		Created: s.Created.UTC(), Annotations: s.Annotations, Owner: userName(s.Owner)}, nil
}

// userName returns the name of a user of the host, "#1000" when it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}

func state(_ context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	s, err := stateOf(d)
	if err != nil {
		return 0, err
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return 0, err
	}
	return 0, write(c.Out, string(out)+"\n")
}
