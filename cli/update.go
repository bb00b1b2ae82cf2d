package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func pause(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	return 0, d.Pause(ctx)
}

func resume(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	return 0, d.Resume(ctx)
}

func update(ctx context.Context, c *call) (int, error) {
	r, err := c.resources()
	if err != nil {
		return 0, err
	}
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	return 0, d.Update(ctx, r)
}

// resources reads --resources, which makes all other options of update void, or those.
func (c *call) resources() (*specs.LinuxResources, error) {
	if file := c.opts.text("resources"); file != "" {
		return c.readResources(file)
	}
	for _, name := range []string{"l3-cache-schema", "mem-bw-schema"} {
		if c.opts.has(name) {
			return nil, usagef("option --%s: Intel RDT is not supported yet", name)
		}
	}
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}}
	r.CPU.Cpus, r.CPU.Mems = c.opts.text("cpuset-cpus"), c.opts.text("cpuset-mems")
	sizes := map[string]**int64{"memory": &r.Memory.Limit, "memory-reservation": &r.Memory.Reservation, "memory-swap": &r.Memory.Swap}
	kernel := map[string]**int64{"kernel-memory": &r.Memory.Kernel, "kernel-memory-tcp": &r.Memory.KernelTCP}
	for name, dest := range kernel {
		if onlyCgroup2() && c.opts.has(name) {
			c.log.slog().Warn("option --" + name + " is ignored: cgroup v2 has no such limit")
			continue
		}
		sizes[name] = dest
	}
	for name, dest := range sizes {
		if text := c.opts.text(name); text != "" {
			n, err := parseBytes(text)
			if err != nil {
				return nil, usagef("option --%s: %v", name, err)
			}
			*dest = &n
		}
	}
	for name, dest := range map[string]**int64{
		"cpu-quota": &r.CPU.Quota, "cpu-rt-runtime": &r.CPU.RealtimeRuntime, "cpu-idle": &r.CPU.Idle,
	} {
		if c.opts.has(name) {
			*dest = new(c.opts.number(name))
		}
	}
	for name, dest := range map[string]**uint64{
		"cpu-period": &r.CPU.Period, "cpu-burst": &r.CPU.Burst, "cpu-share": &r.CPU.Shares, "cpu-rt-period": &r.CPU.RealtimePeriod,
	} {
		if c.opts.has(name) {
			n := c.opts.number(name)
			if n < 0 {
				return nil, usagef("option --%s: %d is negative", name, n)
			}
			*dest = new(uint64(n))
		}
	}
	if n := c.opts.number("blkio-weight"); n != 0 {
		if n < 0 || n > math.MaxUint16 {
			return nil, usagef("option --blkio-weight: %d is not between 10 and 1000", n)
		}
		r.BlockIO.Weight = new(uint16(n))
	}
	if c.opts.has("pids-limit") {
		r.Pids = &specs.LinuxPids{Limit: new(c.opts.number("pids-limit"))}
	}
	return r, nil
}

func (c *call) readResources(file string) (*specs.LinuxResources, error) {
	in := io.Reader(c.In)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("option --resources: %w", err)
		}
		defer f.Close()
		in = f
	}
	var r specs.LinuxResources
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return nil, fmt.Errorf("option --resources: parse %s: %w", file, err)
	}
	return &r, nil
}

// parseBytes reads a size such as 1048576, 512M, 1.5g or 64KiB, all in powers of 1024; -1 is no limit.
func parseBytes(text string) (int64, error) {
	if text == "-1" {
		return -1, nil
	}
	digits := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if digits < 0 {
		digits = len(text)
	}
	f, err := strconv.ParseFloat(text[:digits], 64)
	unit := strings.ToLower(strings.TrimSpace(text[digits:]))
	if unit != "" && unit != "b" {
		power := strings.IndexByte("kmgtp", unit[0]) + 1
		if rest := unit[1:]; power == 0 || rest != "" && rest != "b" && rest != "ib" {
			err = strconv.ErrSyntax
		}
		f *= float64(int64(1) << (10 * power))
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 1048576 or 512M", text)
	}
	if f >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return int64(f), nil
}
