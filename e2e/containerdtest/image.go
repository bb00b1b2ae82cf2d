package containerdtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Image is the reference of the image that WriteImage makes.
const Image = "localhost/gosuda-test:latest"

// busybox is Debian's static busybox, from the package busybox-static.
const busybox = "/bin/busybox"

// rootfsFiles are the files of the image besides /bin.
var rootfsFiles = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
	"etc/group":  "root:x:0:\nalice:x:1000:\nwheel:x:10:alice\nnogroup:x:65534:\n",
	"etc/motd":   "hello from a container made by gosuda\n",
}

var rootfsDirs = []string{"bin", "dev", "etc", "home", "home/alice", "proc", "root", "run", "sys", "tmp", "var", "usr", "usr/bin"}

// WriteRootfs makes the image's files in the existing directory dir.
func WriteRootfs(dir string) error {
	applets, program, err := readBusybox()
	if err != nil {
		return err
	}
	for _, d := range rootfsDirs {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777|fs.ModeSticky); err != nil {
		return err
	}
	for name, text := range rootfsFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), program, 0o755); err != nil {
		return err
	}
	for _, a := range applets {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// WriteImage makes, at path, an image archive (the form that docker save writes, one layer) of the machine's static busybox.
func WriteImage(path string) error {
	layer, err := layerTar()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Cmd":        []string{"/bin/sh"},
			"WorkingDir": "/",
		},
		"history": []map[string]any{{"created_by": "gosuda's tests"}}, // builders count layers by it
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{Image}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, file := range []struct {
		name string
		data []byte
	}{{"layer.tar", layer}, {"config.json", config}, {"manifest.json", manifest}} {
		if err := writeFile(w, file.name, file.data, 0o644); err != nil {
			return fmt.Errorf("write %s into %s: %w", file.name, path, err)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func layerTar() ([]byte, error) {
	applets, program, err := readBusybox()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, d := range rootfsDirs {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	for name, text := range rootfsFiles {
		if err := writeFile(w, name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := writeFile(w, "bin/busybox", program, 0o755); err != nil {
		return nil, err
	}
	for _, a := range applets {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

func writeFile(w *tar.Writer, name string, data []byte, mode int64) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// readBusybox returns the names of busybox's applets and the program.
func readBusybox() (applets []string, program []byte, err error) {
	if program, err = os.ReadFile(busybox); err != nil {
		return nil, nil, fmt.Errorf("read busybox: %w (Debian's package busybox-static has it)", err)
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	for a := range strings.FieldsSeq(string(list)) {
		if a != "busybox" {
			applets = append(applets, a)
		}
	}
	return applets, program, nil
}
