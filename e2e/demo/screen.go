package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// screen is standard output: with colours and lines that change on a terminal, plain otherwise.
type screen struct{ terminal bool }

func newScreen() *screen {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return &screen{terminal: err == nil && os.Getenv("NO_COLOR") == ""}
}

const (
	bold  = "\033[1m"
	dim   = "\033[2m"
	green = "\033[32m"
	plain = "\033[0m"
)

func (s *screen) paint(style, text string) string {
	if !s.terminal {
		return text
	}
	return style + text + plain
}

// step says what is going on; the function that it returns says that it is done and how long it took.
func (s *screen) step(format string, args ...any) (done func()) {
	text, began := fmt.Sprintf(format, args...), time.Now()
	if s.terminal {
		fmt.Printf("… %s", text)
	}
	return func() {
		took := fmt.Sprintf("%d ms", time.Since(began).Milliseconds())
		if s.terminal {
			fmt.Print("\r\033[K")
		}
		fmt.Printf("%s %s %s\n", s.paint(green, "✓"), text, s.paint(dim, "("+took+")"))
	}
}

func (s *screen) title(text string)              { fmt.Printf("\n%s\n", s.paint(bold, text)) }
func (s *screen) say(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

func (s *screen) indented(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("  ", line)
	}
}

// plan prints the trace of a launch. On a terminal, lines are cut at its width, and the first, which tells about the whole, stands out.
func (s *screen) plan(text string) {
	width := s.width()
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if r := []rune(line); width > 10 && len(r) > width-3 {
			line = string(r[:width-4]) + "…"
		}
		if i == 0 {
			line = s.paint(bold, line)
		}
		fmt.Println(" ", line)
	}
}

// width is the terminal's in columns, 0 when there is none.
func (s *screen) width() int {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if !s.terminal || err != nil {
		return 0
	}
	return int(size.Col)
}
