package bootstrap

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
)

// featuresType is the type URL under which containerd registers runtime-spec's features.Features. The value is JSON.
const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// Info writes a containerd.types.RuntimeInfo to stdout. release is what the program was built as, "" when nobody said. stdin holds an Any of runtime options, or nothing. The options are
// repeated and not looked at: what the runtime can do does not depend on them, and a type that is unknown must not fail.
func Info(release string, stdin io.Reader, stdout io.Writer) error {
	options, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	if _, err := wire.DecodeAny(options); err != nil {
		return fmt.Errorf("decode runtime options: %w", err)
	}
	features, err := json.Marshal(engine.Features())
	if err != nil {
		return fmt.Errorf("encode features: %w", err) // our bug
	}
	if _, err := stdout.Write(encodeInfo(version(release), options, features)); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

// encodeInfo encodes containerd.types.RuntimeInfo{name = 1, version = 2, options = 3, features = 4}. options is an encoded Any.
func encodeInfo(v buildVersion, options, features []byte) []byte {
	b := wire.AppendString(nil, 1, RuntimeName)
	number := wire.AppendString(nil, 1, v.version)
	b = wire.AppendMessage(b, 2, wire.AppendString(number, 2, v.revision))
	if len(options) > 0 {
		b = wire.AppendMessage(b, 3, options)
	}
	return wire.AppendMessage(b, 4, wire.Any{TypeURL: featuresType, Value: features}.Encode())
}

// PrintVersion writes what -v shows; release is as in Info.
func PrintVersion(release, program string, stdout io.Writer) error {
	v := version(release)
	_, err := fmt.Fprintf(stdout, "%s:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n", program, v.version, v.revision, v.goVersion)
	return err
}

// buildVersion says what this program was built from.
type buildVersion struct {
	version, revision, goVersion string
}

// version adds to release what the Go tool recorded in the program.
func version(release string) buildVersion {
	v := buildVersion{version: release}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.goVersion = info.GoVersion
	if release == "" {
		v.version = info.Main.Version
	}
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ".m"
		}
	}
	if v.revision != "" {
		v.revision += modified
	}
	return v
}
