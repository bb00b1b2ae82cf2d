package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/shim/config"
)

// protocol is how the caller of start speaks. The request and the reply are always of the same protocol.
type protocol uint8

const (
	protocolParams  protocol = iota // BootstrapParams in, BootstrapResult of version 3 out: containerd 2.3 and later
	protocolJSON                    // an Any of the options in, JSON of version 2 out: containerd 1.7 to 2.2
	protocolAddress                 // an Any of the options in, the bare address out: containerd 1.6
)

// request is what the caller of start asks for.
type request struct {
	protocol     protocol
	ttrpcAddress string // containerd's, for events
	address      string // containerd's gRPC socket
	socketDir    string // "" is the default
	debug        bool
	options      wire.Any // the runtime options; zero when there are none
}

// legacyEnvironment is the part of the environment that tells callers apart.
type legacyEnvironment struct {
	ttrpcAddress    string // TTRPC_ADDRESS, set by every containerd
	hasShimVersions bool   // MAX_SHIM_VERSION is set: containerd 1.7 and later, which reads JSON
}

// decodeRequest decides which protocol the caller speaks. No version is announced anywhere: input is BootstrapParams when
// it decodes as such and repeats the id and the namespace of the command line. Otherwise it is the options' Any, which is
// wire-compatible with BootstrapParams, and empty without options.
func decodeRequest(f Flags, input []byte, env legacyEnvironment) (request, error) {
	if r, ok := decodeParams(f, input); ok {
		if r.ttrpcAddress == "" {
			r.ttrpcAddress = env.ttrpcAddress
		}
		return r, nil
	}
	options, err := wire.DecodeAny(input)
	if err != nil {
		return request{}, errors.New("decode stdin: neither bootstrap parameters nor runtime options")
	}
	r := request{protocol: protocolAddress, ttrpcAddress: env.ttrpcAddress, address: f.Address, debug: f.Debug, options: options}
	if env.hasShimVersions {
		r.protocol = protocolJSON
	}
	return r, nil
}

// logLevelDebug is LOG_LEVEL_DEBUG; more verbose levels are below it.
const logLevelDebug = -4

// decodeParams decodes containerd.runtime.bootstrap.v1.BootstrapParams.
func decodeParams(f Flags, input []byte) (request, bool) {
	r := request{protocol: protocolParams, address: f.Address, debug: f.Debug}
	var id, namespace string
	for field, err := range wire.Fields(input) {
		if err != nil {
			return request{}, false
		}
		switch field.Num {
		case 1:
			id = field.String()
		case 2:
			namespace = field.String()
		case 3:
			r.debug = r.debug || int32(field.Varint) <= logLevelDebug
		case 5:
			r.ttrpcAddress = field.String()
		case 6:
			r.address = field.String()
		case 8:
			if options, ok := decodeExtension(field.Bytes); ok && r.options.TypeURL == "" {
				r.options = options
			}
		case 9:
			r.socketDir = field.String()
		}
	}
	return r, id == f.ID && namespace == f.Namespace
}

// decodeExtension decodes Extension{Any value = 1} when it carries runtime options; any other extension must be ignored.
func decodeExtension(message []byte) (wire.Any, bool) {
	for field, err := range wire.Fields(message) {
		if err != nil {
			return wire.Any{}, false
		}
		if field.Num != 1 {
			continue
		}
		value, err := wire.DecodeAny(field.Bytes)
		return value, err == nil && config.Known(value.TypeURL)
	}
	return wire.Any{}, false
}

// mountCapabilities is the type URL of the extension that says which mounts the shim makes itself. It is empty: none but
// those of every shim. Without the extension containerd executes -info before the first container of a runtime name.
const mountCapabilities = "type.googleapis.com/containerd.types.MountCapabilities"

// reply encodes the answer to start in the caller's protocol.
func reply(p protocol, address string) ([]byte, error) {
	switch p {
	case protocolAddress:
		return []byte(address), nil
	case protocolJSON:
		// containerd 1.7 refuses versions above 2, and nothing tells it from 2.0.
		text, err := json.Marshal(struct {
			Version  int    `json:"version"`
			Address  string `json:"address"`
			Protocol string `json:"protocol"`
		}{2, address, "ttrpc"})
		if err != nil {
			return nil, fmt.Errorf("encode reply: %w", err) // our bug
		}
		return text, nil
	}
	// BootstrapResult{version = 1, address = 2, protocol = 3, extensions = 6}
	b := wire.AppendVarint(nil, 1, 3)
	b = wire.AppendString(b, 2, address)
	b = wire.AppendString(b, 3, "ttrpc")
	extension := wire.AppendMessage(nil, 1, wire.Any{TypeURL: mountCapabilities}.Encode())
	return wire.AppendMessage(b, 6, extension), nil
}
