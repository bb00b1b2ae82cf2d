package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gosuda/gosudacon/internal/trusted"
)

// fileLimit bounds what is read of a file of options, in bytes.
const fileLimit = 1 << 20

// The files that a shim leaves in the bundle for `delete`, under the names that containerd-shim-runc-v2 uses.
const (
	optionsFile = "options.json"
	runtimeFile = "runtime"
	addressFile = "address"
)

// What a sandbox has in its bundle: a directory with the files of its containers, and in that the mount of their /dev/shm.
const (
	PodFiles = "pod"
	PodShm   = PodFiles + "/shm"
)

// WriteBundle records the options of a container in its bundle, where `delete` finds them after a crash of the shim.
func WriteBundle(bundle string, o Options) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode runtime options: %w", err) // our bug: strings, numbers and booleans encode
	}
	if err := trusted.Replace(filepath.Join(bundle, optionsFile), text); err != nil {
		return fmt.Errorf("record runtime options: %w", err)
	}
	if err := trusted.Replace(filepath.Join(bundle, runtimeFile), []byte(o.BinaryName)); err != nil {
		return fmt.Errorf("record runtime name: %w", err)
	}
	return nil
}

// ReadBundle returns what WriteBundle, or containerd-shim-runc-v2, recorded in the bundle; the defaults when nothing was.
func ReadBundle(bundle string) (Options, error) {
	text, err := trusted.ReadRegular(filepath.Join(bundle, optionsFile), fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return Options{}, nil
	}
	if err != nil {
		return Options{}, fmt.Errorf("read recorded runtime options: %w", err)
	}
	var o Options
	if err := json.Unmarshal(text, &o); err != nil {
		return Options{}, fmt.Errorf("decode recorded runtime options: %w", err)
	}
	return o, nil
}

// WriteAddress records the address of the shim that serves the container ("unix://" and a path) in the bundle. containerd
// before 2.0 reconnects by this file after a restart; `delete` finds the socket of a dead shim by it.
func WriteAddress(bundle, address string) error {
	if err := trusted.Replace(filepath.Join(bundle, addressFile), []byte(address)); err != nil {
		return fmt.Errorf("record shim address: %w", err)
	}
	return nil
}

// ReadAddress returns what WriteAddress recorded; "" when nothing was.
func ReadAddress(bundle string) (string, error) {
	text, err := trusted.ReadRegular(filepath.Join(bundle, addressFile), fileLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read recorded shim address: %w", err)
	}
	return string(text), nil
}
