package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The repositories of critest's images, below whichever registry.
const (
	e2eImages   = "e2e-test-images/"
	stageImages = "k8s-staging-cri-tools/"
)

// DigestImage returns the digest of the image that critest is to pull by its digest. It depends on nothing but this package, because critest is
// built with it in place of the digest of the image that it knows: nobody can make another one that has that.
func DigestImage() (string, error) { return digestImage(newRegistry()) }

// sandboxImage is the image of pods' own containers. It is none that critest pulls and removes.
const sandboxImage = "localhost/pause:gosuda"

var searchPath = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// digestImage adds the image that critest pulls by its digest, and returns that.
func digestImage(r *registry) (string, error) {
	layer, err := writeLayer([]entry{text("digest", "this image is pulled by its digest\n")})
	if err != nil {
		return "", err
	}
	return r.put(settings{Cmd: []string{"/none"}}, [][]byte{layer})
}

// putImages makes every image that critest names. dir is a directory to build in.
func putImages(ctx context.Context, tree containerdtest.Tree, dir string, r *registry) error {
	busybox, err := busyboxImage(ctx, tree)
	if err != nil {
		return err
	}
	guest, err := buildGuest(ctx, tree, dir)
	if err != nil {
		return err
	}
	server := func(name string) ([]byte, error) {
		return writeLayer([]entry{{name: "usr/sbin/" + name, mode: 0o755, data: guest}})
	}
	shell := settings{Env: searchPath, Cmd: []string{"sh"}}
	as := func(user string) settings { return settings{Env: searchPath, Cmd: shell.Cmd, User: user} }
	serve := func(program, address string) settings {
		// critest looks for these words in the command line.
		return settings{Env: searchPath, Entrypoint: []string{"/usr/sbin/" + program, address, "master process"}}
	}
	nginx, err := server("nginx")
	if err != nil {
		return err
	}
	httpd, err := server("httpd")
	if err != nil {
		return err
	}
	nnp, err := writeLayer([]entry{{name: "nnp", mode: 0o4755, data: guest}})
	if err != nil {
		return err
	}
	pause, err := writeLayer([]entry{{name: "pause", mode: 0o755, data: guest}})
	if err != nil {
		return err
	}
	grouped, err := writeLayer([]entry{
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\n"),
		text("etc/group", "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"),
	})
	if err != nil {
		return err
	}

	images := []struct {
		settings settings
		layers   [][]byte
		names    []string
	}{
		{shell, [][]byte{busybox}, []string{e2eImages + "busybox:1.29-2"}},
		{serve("nginx", ":80"), [][]byte{busybox, nginx}, []string{e2eImages + "nginx:1.14-2"}},
		{serve("nginx", ":12003"), [][]byte{busybox, nginx}, []string{stageImages + "hostnet-nginx-" + runtime.GOARCH + ":latest"}},
		{serve("httpd", ":80"), [][]byte{busybox, httpd}, []string{e2eImages + "httpd:2.4.39-4"}},
		{settings{Entrypoint: []string{"/nnp"}}, [][]byte{nnp}, []string{e2eImages + "nonewprivs:1.3"}},
		{settings{Entrypoint: []string{"/pause"}}, [][]byte{pause}, []string{"pause:3.9"}},
		{settings{Entrypoint: []string{"/pause"}, User: "65535"}, [][]byte{pause}, []string{strings.TrimPrefix(sandboxImage, "localhost/")}},
		{as("1002"), [][]byte{busybox}, []string{stageImages + "test-image-user-uid:latest"}},
		{as("www-data"), [][]byte{busybox}, []string{stageImages + "test-image-user-username:latest"}},
		{as("1003:users"), [][]byte{busybox}, []string{stageImages + "test-image-user-uid-group:latest"}},
		{as("www-data:100"), [][]byte{busybox}, []string{stageImages + "test-image-user-username-group:latest"}},
		{as("1000"), [][]byte{busybox, grouped}, []string{stageImages + "test-image-predefined-group:latest"}},
	}
	for _, i := range images {
		if _, err := r.put(i.settings, i.layers, i.names...); err != nil {
			return err
		}
	}
	if _, err := digestImage(r); err != nil {
		return err
	}
	// Images that are only told from each other.
	different := [][]string{
		{stageImages + "test-image-latest:latest"}, {stageImages + "test-image-tag:test"}, {stageImages + "test-image-tag:all"},
		{stageImages + "test-image-1:latest"}, {stageImages + "test-image-2:latest"}, {stageImages + "test-image-3:latest"},
		{stageImages + "test-image-tags:1", stageImages + "test-image-tags:2", stageImages + "test-image-tags:3"},
	}
	for _, names := range different {
		layer, err := writeLayer([]entry{text("name", names[0]+"\n")})
		if err != nil {
			return err
		}
		if _, err := r.put(shell, [][]byte{busybox, layer}, names...); err != nil {
			return err
		}
	}
	return nil
}

func busyboxImage(ctx context.Context, tree containerdtest.Tree) ([]byte, error) {
	dir, err := tree.Peer("busybox")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "busybox")
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, file, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	applets := strings.Fields(strings.ReplaceAll(string(list), "busybox\n", ""))
	return writeLayer(busyboxLayer(program, applets))
}

func buildGuest(ctx context.Context, tree containerdtest.Tree, dir string) ([]byte, error) {
	file := filepath.Join(dir, "guest")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./node/guest")
	build.Dir = filepath.Join(string(tree), "e2e")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the images' program: %w: %s", err, out)
	}
	return os.ReadFile(file)
}
