package cgroup

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats reads the cgroup's figures into s, whose memory it uses again. It keeps the files open until Close, which makes the
// next call four times as fast. The error is os.ErrNotExist when the cgroup is gone.
func (c *Cgroup) Stats(s *Stats) error {
	if err := c.ask(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats == nil {
		c.stats = &statReader{cgroup: c, buf: make([]byte, 4096), spare: spareDescriptor()}
	}
	r := c.stats
	r.next, r.found, r.err = 0, false, nil
	if c.host.Mode == V2 {
		s.V1, s.V2 = nil, keep(s.V2)
		r.readV2(s.V2)
	} else {
		s.V1, s.V2 = keep(s.V1), nil
		r.readV1(s.V1)
	}
	switch {
	case r.err != nil && !gone(r.err):
		return fmt.Errorf("read the figures of cgroup %s: %w", c.reference().path, r.err)
	case !r.found || c.removed(): // perhaps while we read, and half of the figures are missing
		r.close()
		return fmt.Errorf("cgroup %s: %w", c.reference().path, os.ErrNotExist)
	}
	return nil
}

// keep returns p, or what it can point to.
func keep[T any](p *T) *T {
	if p == nil {
		p = new(T)
	}
	return p
}

// spareDescriptor returns the middle of the file descriptors that this process may have. What is read again and again may take
// one half of them, whatever the number of containers; the other is for the starting of processes.
func spareDescriptor() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32) / 2)
}

// statReader reads the same files in the same order each time: next counts them.
type statReader struct {
	cgroup  *Cgroup
	files   []statFile
	next    int
	spare   int  // descriptors from this one on are not kept
	found   bool // some file was there
	err     error
	buf     []byte
	sizes   []string          // of huge pages
	devices map[uint64]string // names of block devices
}

type statFile struct {
	path string
	fd   int // notOpen, or missing, which will not change
}

const (
	notOpen = -1
	missing = -2
)

func (r *statReader) close() {
	for i := range r.files {
		if f := &r.files[i]; f.fd >= 0 {
			unix.Close(f.fd)
			f.fd = notOpen
		}
	}
}

// file returns the content of the next file, valid until the next call; nil when the file is not there.
func (r *statReader) file(controller, name string) []byte {
	if r.next == len(r.files) {
		f := statFile{fd: notOpen}
		if r.cgroup.host.home(controller) == V1 {
			f.path = r.cgroup.dir(controller) + "/" + name
		} else if r.cgroup.unified != "" {
			f.path = r.cgroup.unified + "/" + name
		}
		r.files = append(r.files, f)
	}
	f := &r.files[r.next]
	r.next++
	if f.fd == missing {
		return nil
	}
	if f.fd == notOpen {
		fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT || err == unix.EOPNOTSUPP { // the latter is pressure, switched off
			f.fd = missing
			return nil
		}
		if err != nil {
			r.fail("open", f.path, err)
			return nil
		}
		f.fd = fd
		if fd >= r.spare {
			defer func() { unix.Close(fd); f.fd = notOpen }()
		}
	}
	for {
		n, err := unix.Pread(f.fd, r.buf, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EOPNOTSUPP:
			return nil
		case err != nil:
			r.fail("read", f.path, err)
			return nil
		case n == len(r.buf): // these files come whole, if there is room
			r.buf = make([]byte, 2*len(r.buf))
		default:
			r.found = true
			return r.buf[:n]
		}
	}
}

// fail keeps the first error.
func (r *statReader) fail(op, path string, err error) {
	if r.err == nil {
		r.err = &os.PathError{Op: op, Path: path, Err: err}
	}
}

// number returns the number in the next file, 0 when the file is not there; "max" is math.MaxUint64.
func (r *statReader) number(controller, name string) uint64 {
	return parseUint(bytes.TrimSpace(r.file(controller, name)))
}

// pairs calls fn for each "key number" line of the next file and reports whether the file was there.
func (r *statReader) pairs(controller, name string, fn func(key []byte) *uint64) bool {
	data := r.file(controller, name)
	for line := range bytes.Lines(data) {
		key, v, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		if field := fn(key); field != nil {
			*field = parseUint(v)
		}
	}
	return data != nil
}

func parseUint(b []byte) uint64 {
	if string(b) == "max" {
		return math.MaxUint64
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0 // negative numbers are for what cannot be negative
		}
		n = 10*n + uint64(c-'0')
	}
	return n
}

// rdma reads the RDMA devices of the next file.
func (r *statReader) rdma(name string, entries []RdmaEntry) []RdmaEntry {
	entries = entries[:0]
	for line := range bytes.Lines(r.file("rdma", name)) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue
		}
		e := RdmaEntry{Device: string(fields[0])}
		for _, f := range fields[1:] {
			key, v, _ := bytes.Cut(f, []byte("="))
			n := uint32(min(parseUint(v), math.MaxUint32))
			switch string(key) {
			case "hca_handle":
				e.HcaHandles = n
			case "hca_object":
				e.HcaObjects = n
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// pageSizes returns the sizes of huge pages as cgroup files name them.
func (r *statReader) pageSizes() []string {
	if r.sizes != nil {
		return r.sizes
	}
	r.sizes = []string{}
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages") // missing when the kernel has none
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if kib, err := strconv.ParseUint(name, 10, 64); err == nil {
			r.sizes = append(r.sizes, pageSize(kib))
		}
	}
	slices.Sort(r.sizes)
	return r.sizes
}

func pageSize(kib uint64) string {
	switch {
	case kib >= 1<<20:
		return utoa(kib>>20) + "GB"
	case kib >= 1<<10:
		return utoa(kib>>10) + "MB"
	}
	return utoa(kib) + "KB"
}

// device returns the path of a block device, "" if it has no name.
func (r *statReader) device(major, minor uint64) string {
	key := major<<32 | minor
	name, ok := r.devices[key]
	if !ok {
		if target, err := os.Readlink("/sys/dev/block/" + utoa(major) + ":" + utoa(minor)); err == nil {
			name = "/dev/" + filepath.Base(target)
		}
		if r.devices == nil {
			r.devices = make(map[uint64]string)
		}
		r.devices[key] = name
	}
	return name
}
