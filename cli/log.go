package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// logger writes what runc's callers read: lines of text as logrus has them, or JSON objects with level, msg and time.
//
// A failed command leaves exactly one object in a JSON log, as podman parses the whole file: warnings are written there with
// --debug only.
type logger struct {
	w      io.Writer
	json   bool
	stderr bool // w is the standard error: nothing needs to be said twice
	min    slog.Level
}

// openLog follows --log, --log-format, --log-level and --debug.
func openLog(o options, stderr io.Writer) (*logger, error) {
	l := &logger{w: stderr, stderr: true, min: slog.LevelWarn}
	switch format := o.or("log-format", "text"); format {
	case "text":
	case "json":
		l.json = true
	default:
		return nil, usagef("option --log-format: %q is neither text nor json", format)
	}
	name := strings.TrimPrefix(o.text("log"), "file:")
	if backend, _, ok := strings.Cut(name, ":"); ok && (backend == "journald" || backend == "syslog") {
		return nil, usagef("option --log: %s is not supported; give a file", backend)
	}
	if name != "" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		l.w, l.stderr = f, false
	}
	switch level := o.or("log-level", "warning"); level {
	case "debug":
		l.min = slog.LevelDebug
	case "warning":
		if l.json && !l.stderr {
			l.min = slog.LevelError
		}
	case "error":
		l.min = slog.LevelError
	default:
		return nil, usagef("option --log-level: %q is none of debug, warning, error", level)
	}
	if o.on("debug") {
		l.min = slog.LevelDebug
	}
	return l, nil
}

func (l *logger) write(level, msg string) {
	now := time.Now()
	if !l.json {
		fmt.Fprintf(l.w, "time=%q level=%s msg=%s\n", now.Format(time.RFC3339), level, strconv.Quote(msg))
		return
	}
	line, err := json.Marshal(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{level, msg, now.Format(time.RFC3339)})
	if err == nil {
		l.w.Write(append(line, '\n'))
	}
}

// fatal tells why the command failed, in the log and to whoever looks at the screen.
func (l *logger) fatal(err error, stderr io.Writer) {
	switch {
	case !l.stderr:
		l.write("error", err.Error())
		fmt.Fprintln(stderr, err)
	case !l.json && isTerminal(stderr):
		fmt.Fprintf(stderr, "\x1b[31merror:\x1b[0m %v\n", err)
	default:
		l.write("error", err.Error())
	}
}

// debugs tells whether debug writes anything.
func (l *logger) debugs() bool { return l.min <= slog.LevelDebug }

// debug logs a text line by line.
func (l *logger) debug(text string) {
	if !l.debugs() {
		return
	}
	for line := range strings.Lines(text) {
		l.write("debug", strings.TrimSpace(line))
	}
}

// slog returns the logger as the engine wants it.
func (l *logger) slog() *slog.Logger { return slog.New(logHandler{l}) }

type logHandler struct{ *logger }

func (h logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.min }

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.write(levelName(r.Level), b.String())
	return nil
}

// The engine uses neither groups nor bound attributes.
func (h logHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h logHandler) WithGroup(string) slog.Handler      { return h }

// levelName is logrus's name.
func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
