package node

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// entry is one file, directory or hard link of a layer.
type entry struct {
	name string // without a leading slash; of a directory, with a trailing one
	mode int64
	data []byte
	link string // a hard link to this name
}

// writeLayer makes the layer's archive: the same bytes for the same entries.
func writeLayer(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: time.Unix(0, 0)}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, e.link
		case e.name[len(e.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func dirs(names ...string) (list []entry) {
	for _, name := range names {
		mode := int64(0o755)
		if name == "tmp/" {
			mode = 0o1777
		}
		list = append(list, entry{name: name, mode: mode})
	}
	return list
}

func text(name, data string) entry { return entry{name: name, mode: 0o644, data: []byte(data)} }

// busyboxLayer is a root file system with busybox under the name of each of its applets. The names are hard links, as in the images that critest
// means: what masks one name must not mask all.
func busyboxLayer(program []byte, applets []string) []entry {
	list := dirs("bin/", "dev/", "etc/", "home/", "proc/", "root/", "run/", "sys/", "tmp/", "usr/", "usr/bin/", "usr/sbin/", "var/", "var/run/", "var/www/")
	list = append(list,
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"+
			"sys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
		text("etc/group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nwww-data:x:33:\nnobody:x:65534:\n"),
		entry{name: "bin/busybox", mode: 0o755, data: program})
	slices.Sort(applets)
	for _, a := range applets {
		list = append(list, entry{name: "bin/" + a, mode: 0o755, link: "bin/busybox"})
	}
	return list
}

// digest is the name of a blob in a registry.
func digest(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "sha256:" + hex.EncodeToString(sum[:])
}
