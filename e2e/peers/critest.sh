#!/bin/bash
# critest.sh DEST DIGEST builds critest of the module beside it in DEST/critest.
#
# One constant of it is changed: the digest of an image that one spec pulls. Whoever serves the images that critest names cannot make one
# that has the digest of the one in the public registry.
set -euo pipefail

dest=$(realpath -m "$1")
digest=$2
cd "$(dirname "$0")/cri-tools"
version=$(go list -m -f '{{.Version}}' sigs.k8s.io/cri-tools)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$(go list -m -f '{{.Dir}}' sigs.k8s.io/cri-tools)" "$work/source"
chmod -R u+w "$work/source"
constants=$work/source/pkg/validate/consts.go
sed -i "s|\(\"test-image-digest@\)sha256:[0-9a-f]*|\1$digest|" "$constants"
if ! grep -q "@$digest" "$constants"; then
	echo "critest.sh: change the digest in pkg/validate/consts.go of cri-tools $version: not found" >&2
	exit 1
fi
cp go.mod go.sum "$work"
go mod edit -replace "sigs.k8s.io/cri-tools=$work/source" "$work/go.mod"
CGO_ENABLED=0 go test -c -trimpath -modfile "$work/go.mod" -ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$version" \
	-o "$dest/critest" sigs.k8s.io/cri-tools/cmd/critest
