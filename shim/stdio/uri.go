package stdio

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// scheme says what is behind a stdio URI.
type scheme string

const (
	schemeNull     scheme = ""          // nothing: /dev/null
	schemeFIFO     scheme = "fifo"      // a FIFO that the client has made, or another file that exists
	schemeFile     scheme = "file"      // a file to append to, made when missing
	schemeBinary   scheme = "binary"    // a logger; end of file on its ready pipe is as good as a byte
	schemeBinaryV2 scheme = "binary-v2" // a logger that must write a byte when it is ready
)

// SchemeError refuses a stdio URI that nobody here serves.
type SchemeError string

func (e SchemeError) Error() string { return "unknown STDIO scheme " + string(e) }

// target is a parsed stdio URI.
type target struct {
	scheme scheme
	path   string
	args   []string // of a logger
}

func (t target) isLogger() bool { return t.scheme == schemeBinary || t.scheme == schemeBinaryV2 }

// parseTarget reads a stdio URI. What has no scheme is the path of a FIFO and taken literally, so that no character in it
// means anything.
func parseTarget(uri string) (target, error) {
	if uri == "" {
		return target{}, nil
	}
	if !strings.Contains(uri, "://") {
		return target{scheme: schemeFIFO, path: uri}, nil
	}
	u, err := url.Parse(uri)
	if err != nil {
		return target{}, fmt.Errorf("parse stdio URI: %w", err)
	}
	t := target{scheme: scheme(u.Scheme), path: u.Path}
	switch t.scheme {
	case schemeFIFO, schemeFile:
	case schemeBinary, schemeBinaryV2:
		if t.args, err = loggerArgs(u.RawQuery); err != nil {
			return target{}, fmt.Errorf("parse stdio URI %q: %w", uri, err)
		}
	default:
		return target{}, SchemeError(u.Scheme)
	}
	if !filepath.IsAbs(t.path) {
		return target{}, fmt.Errorf("parse stdio URI %q: path is not absolute", uri)
	}
	return t, nil
}

// loggerArgs turns the query of a logger's URI into its arguments: each key, followed by its first value even when that is
// empty, in the order of the URI. containerd-shim-runc-v2 does the same in a random order.
func loggerArgs(query string) ([]string, error) {
	var args []string
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil {
			return nil, err
		}
		value, err = url.QueryUnescape(value)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		args = append(args, key, value)
	}
	return args, nil
}
