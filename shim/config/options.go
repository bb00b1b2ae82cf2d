// Package config turns the runtime options that containerd sends, in whatever form, into one struct, and keeps in the
// bundle what `delete` must know after a crash.
package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/internal/wire"
)

// DefaultRoot is the directory under which the shim keeps its state when Options.Root is empty.
const DefaultRoot = "/run/containerd/gosuda"

// Options are the runtime options of one container. The zero value holds every default.
//
// The JSON names are those of containerd.runc.v1.Options: options.json in a bundle can be read by containerd-shim-runc-v2
// and the other way round.
type Options struct {
	NoPivotRoot   bool   `json:"no_pivot_root,omitempty"`
	NoNewKeyring  bool   `json:"no_new_keyring,omitempty"`
	ShimCgroup    string `json:"shim_cgroup,omitempty"` // cgroup that the shim process joins, a path in every hierarchy
	IoUID         uint32 `json:"io_uid,omitempty"`      // owner of the pipes that become stdio
	IoGID         uint32 `json:"io_gid,omitempty"`
	BinaryName    string `json:"binary_name,omitempty"` // kept, but not used: the engine is in the shim
	Root          string `json:"root,omitempty"`        // see StateRoot
	CriuPath      string `json:"criu_path,omitempty"`
	SystemdCgroup bool   `json:"systemd_cgroup,omitempty"`
	CriuImagePath string `json:"criu_image_path,omitempty"`
	CriuWorkPath  string `json:"criu_work_path,omitempty"`
	Trace         string `json:"trace,omitempty"` // file to which the launch plan with its times is appended
}

// StateRoot returns the directory that holds one directory per container of the namespace.
func (o Options) StateRoot(namespace string) string {
	if o.Root == "" {
		return filepath.Join(DefaultRoot, namespace)
	}
	return filepath.Join(o.Root, namespace)
}

// option is one key: its name in TOML, its field number in containerd.runc.v1.Options, and where it is kept.
type option struct {
	key   string
	num   int                // 0: not in that message
	field func(*Options) any // *bool, *uint32 or *string
}

var options = []option{
	{"NoPivotRoot", 1, func(o *Options) any { return &o.NoPivotRoot }},
	{"NoNewKeyring", 2, func(o *Options) any { return &o.NoNewKeyring }},
	{"ShimCgroup", 3, func(o *Options) any { return &o.ShimCgroup }},
	{"IoUid", 4, func(o *Options) any { return &o.IoUID }},
	{"IoGid", 5, func(o *Options) any { return &o.IoGID }},
	{"BinaryName", 6, func(o *Options) any { return &o.BinaryName }},
	{"Root", 7, func(o *Options) any { return &o.Root }},
	{"CriuPath", 8, func(o *Options) any { return &o.CriuPath }},
	{"SystemdCgroup", 9, func(o *Options) any { return &o.SystemdCgroup }},
	{"CriuImagePath", 10, func(o *Options) any { return &o.CriuImagePath }},
	{"CriuWorkPath", 11, func(o *Options) any { return &o.CriuWorkPath }},
	{"Trace", 0, func(o *Options) any { return &o.Trace }},
}

// ErrUnknownType is the error of options whose message type is not one that Decode knows.
var ErrUnknownType = errors.New("unknown type of runtime options")

// The message types of runtime options. The second one has had several packages; its name ends the same in all of them.
const (
	runcOptions    = "containerd.runc.v1.Options"
	runtimeOptions = "runtimeoptions.v1.Options"
)

// Known reports whether Decode knows the message type that a type URL names.
func Known(typeURL string) bool {
	name := wire.Any{TypeURL: typeURL}.Name()
	return name == runcOptions || isRuntimeOptions(name)
}

func isRuntimeOptions(name string) bool {
	return name == runtimeOptions || strings.HasSuffix(name, "."+runtimeOptions)
}

// Decode reads the options of a google.protobuf.Any: containerd.runc.v1.Options, or runtimeoptions.v1.Options with the
// path of a TOML file or with TOML in it. No type and no value are the defaults. Every error is the fault of who wrote
// the options, and names the key, the type or the file; errors.Is(err, ErrUnknownType) tells the type.
func Decode(typeURL string, value []byte) (Options, error) {
	name := wire.Any{TypeURL: typeURL}.Name()
	switch {
	case name == "" && len(value) == 0:
		return Options{}, nil
	case name == runcOptions:
		return decodeMessage(value)
	case isRuntimeOptions(name):
		return decodeRuntimeOptions(value)
	}
	return Options{}, fmt.Errorf("decode runtime options: %w %q", ErrUnknownType, typeURL)
}

// decodeMessage decodes containerd.runc.v1.Options.
func decodeMessage(message []byte) (Options, error) {
	var o Options
	for f, err := range wire.Fields(message) {
		if err != nil {
			return Options{}, fmt.Errorf("decode runtime options: %w", err)
		}
		for _, opt := range options {
			if opt.num != f.Num {
				continue
			}
			// A runtimeoptions.v1.Options under the wrong name decodes as this message but for the types of its fields.
			dst := opt.field(&o)
			if _, isString := dst.(*string); isString != (f.Bytes != nil) {
				return Options{}, fmt.Errorf("runtime option %s: wrong wire type", opt.key)
			}
			switch dst := dst.(type) {
			case *bool:
				*dst = f.Bool()
			case *uint32:
				*dst = uint32(f.Varint)
			case *string:
				*dst = f.String()
			}
		}
	}
	return o.validated()
}

// decodeRuntimeOptions decodes runtimeoptions.v1.Options{type_url = 1, config_path = 2, config_body = 3}.
func decodeRuntimeOptions(message []byte) (Options, error) {
	var path string
	var body []byte
	for f, err := range wire.Fields(message) {
		if err != nil {
			return Options{}, fmt.Errorf("decode runtime options: %w", err)
		}
		switch f.Num {
		case 2:
			path = f.String()
		case 3:
			body = f.Bytes
		}
	}
	if path == "" {
		return decodeTOML(body)
	}
	if !filepath.IsAbs(path) {
		return Options{}, fmt.Errorf("runtime option ConfigPath: %q is not absolute", path)
	}
	body, err := trusted.ReadRegular(path, fileLimit)
	if err != nil {
		return Options{}, fmt.Errorf("read runtime options: %w", err)
	}
	o, err := decodeTOML(body)
	if err != nil {
		return Options{}, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

func decodeTOML(body []byte) (Options, error) {
	var table map[string]any
	if err := toml.Unmarshal(body, &table); err != nil {
		return Options{}, fmt.Errorf("parse runtime options: %w", err)
	}
	var o Options
	for _, key := range slices.Sorted(maps.Keys(table)) { // of several errors, always the same one
		if err := o.set(key, table[key]); err != nil {
			return Options{}, err
		}
	}
	return o.validated()
}

// set stores the TOML value v. Keys are compared as containerd compares them, without regard to case.
func (o *Options) set(key string, v any) error {
	for _, opt := range options {
		if strings.EqualFold(opt.key, key) {
			return assign(opt.key, opt.field(o), v)
		}
	}
	// The CRI plugin sends the whole table, with the keys of runtimeoptions.v1.Options itself in it.
	switch {
	case strings.EqualFold(key, "TypeUrl"):
		return nil
	case strings.EqualFold(key, "ConfigPath") && v == "":
		return nil
	}
	return fmt.Errorf("runtime option %s: unknown", key)
}

func assign(key string, dst, v any) error {
	switch dst := dst.(type) {
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("runtime option %s: want a boolean, got %v", key, v)
		}
		*dst = b
	case *uint32:
		n, ok := v.(int64)
		if !ok || n < 0 || n > math.MaxUint32 {
			return fmt.Errorf("runtime option %s: want an integer from 0 to %d, got %v", key, uint32(math.MaxUint32), v)
		}
		*dst = uint32(n)
	case *string:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("runtime option %s: want a string, got %v", key, v)
		}
		*dst = s
	}
	return nil
}

// validated refuses what cannot work. The shim's working directory is the bundle, which goes away: a relative path is
// never what somebody meant.
func (o Options) validated() (Options, error) {
	for _, p := range []struct{ key, path string }{{"Root", o.Root}, {"Trace", o.Trace}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return Options{}, fmt.Errorf("runtime option %s: %q is not an absolute path", p.key, p.path)
		}
	}
	return o, nil
}
