#!/bin/bash
# image.sh FILE NAME makes the installer's image NAME in FILE, an archive of an OCI image layout, without any container tool. It holds the shim that make
# build left, install.sh, and the machine's static busybox. The same contents make the same image.
set -euo pipefail

file=$(realpath -m "$1")
name=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

root=$work/root
mkdir -p "$root"/{bin,gosuda,host,tmp}
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$here"/install.sh "$here"/gosuda.toml "$here"/../bin/containerd-shim-gosuda-v2 "$root/gosuda"
tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .

layout=$work/layout
mkdir -p "$layout/blobs/sha256"
# blob FILE puts it in the layout and prints the rest of its descriptor.
blob() {
	local sum
	sum=$(sha256sum "$1" | cut -d ' ' -f 1)
	cp "$1" "$layout/blobs/sha256/$sum"
	printf '"digest": "sha256:%s", "size": %s' "$sum" "$(stat -c %s "$1")"
}
arch=$(go env GOARCH)
diff=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
gzip -n "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz")

cat >"$work/config" <<END
{"architecture": "$arch", "os": "linux",
 "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Entrypoint": ["/bin/sh", "/gosuda/install.sh"], "Cmd": ["install"], "WorkingDir": "/"},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$diff"]}}
END
config=$(blob "$work/config")
cat >"$work/manifest" <<END
{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
 "config": {"mediaType": "application/vnd.oci.image.config.v1+json", $config},
 "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", $layer}]}
END
manifest=$(blob "$work/manifest")
cat >"$layout/index.json" <<END
{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
 "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", $manifest,
  "platform": {"architecture": "$arch", "os": "linux"},
  "annotations": {"io.containerd.image.name": "$name", "org.opencontainers.image.ref.name": "${name##*:}"}}]}
END
echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
mkdir -p "$(dirname "$file")"
tar -C "$layout" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$file" .
echo "$file: $name"
