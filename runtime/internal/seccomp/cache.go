package seccomp

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Cache compiles profiles and keeps the filters of those used last, by content. It is safe for concurrent use; the zero
// Cache keeps nothing.
type Cache struct {
	mu      sync.Mutex
	max     int
	entries []cacheEntry // the one used last first
}

type cacheEntry struct {
	key    string
	filter *Filter
}

// NewCache returns a cache that keeps up to max filters. A filter of a container engine's default profile takes 10 KiB
// with its key.
func NewCache(max int) *Cache { return &Cache{max: max} }

// Compile is like the package's Compile; the filter may be shared with other callers.
func (c *Cache) Compile(p *specs.LinuxSeccomp, o Options) (*Filter, error) {
	if p == nil {
		return nil, nil
	}
	key := cacheKey(p, o)
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.entries, func(e cacheEntry) bool { return e.key == key }); i >= 0 {
		hit := c.entries[i]
		copy(c.entries[1:i+1], c.entries[:i])
		c.entries[0] = hit
		return hit.filter, nil
	}
	f, err := Compile(p, o)
	if f == nil || c.max <= 0 {
		return f, err
	}
	if len(c.entries) < c.max {
		c.entries = append(c.entries, cacheEntry{})
	}
	copy(c.entries[1:], c.entries)
	c.entries[0] = cacheEntry{key, f}
	return f, nil
}

// cacheKey returns p and o in a form that differs whenever they do: every value has a fixed size or its length before it.
func cacheKey(p *specs.LinuxSeccomp, o Options) string {
	b := make(keyBuilder, 0, 8<<10) // enough for a container engine's default profile
	b.number(uint64(o.Arch))
	b.number(uint64(o.SupportedFlags))
	b.text(string(p.DefaultAction))
	b.optional(p.DefaultErrnoRet)
	b.number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		b.text(string(a))
	}
	if p.Flags == nil { // not the same as no flags
		b.number(^uint64(0))
	} else {
		b.number(uint64(len(p.Flags)))
	}
	for _, f := range p.Flags {
		b.text(string(f))
	}
	b.text(p.ListenerPath)
	b.text(p.ListenerMetadata)
	b.number(uint64(len(p.Syscalls)))
	for _, s := range p.Syscalls {
		b.number(uint64(len(s.Names)))
		for _, name := range s.Names {
			b.text(name)
		}
		b.text(string(s.Action))
		b.optional(s.ErrnoRet)
		b.number(uint64(len(s.Args)))
		for _, arg := range s.Args {
			b.number(uint64(arg.Index))
			b.number(arg.Value)
			b.number(arg.ValueTwo)
			b.text(string(arg.Op))
		}
	}
	return string(b)
}

type keyBuilder []byte

func (b *keyBuilder) number(n uint64) { *b = binary.AppendUvarint(*b, n) }

func (b *keyBuilder) text(s string) {
	b.number(uint64(len(s)))
	*b = append(*b, s...)
}

func (b *keyBuilder) optional(n *uint) {
	if n == nil {
		*b = append(*b, 0)
		return
	}
	*b = append(*b, 1)
	b.number(uint64(*n))
}
