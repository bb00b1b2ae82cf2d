package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pipes are the pipes between the caller and the child.
type pipes struct {
	reports         *os.File // the caller's end, pollable
	answers         int      // the caller's end, which blocks: an answer fits into an empty pipe, and the child reads each
	report, control int      // the child's ends, which block; -1 once closed
	// lates and late are the ends of the socket for what the caller makes while the child works; -1 when it makes nothing.
	lates, late int
}

// makePipes makes them; files: the one for reports is a socket, which passes descriptors.
func makePipes(files bool) (*pipes, error) {
	var up, down [2]int
	err := error(nil)
	if files {
		up, err = filesPair()
	} else {
		err = unix.Pipe2(up[:], unix.O_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make report pipe: %w", err)
	}
	if err := unix.Pipe2(down[:], unix.O_CLOEXEC); err != nil {
		unix.Close(up[0])
		unix.Close(up[1])
		return nil, fmt.Errorf("make control pipe: %w", err)
	}
	unix.SetNonblock(up[0], true)
	return &pipes{reports: os.NewFile(uintptr(up[0]), "reports"), answers: down[1],
		report: up[1], control: down[0], lates: -1, late: -1}, nil
}

// filesPair makes a socket that passes descriptors.
func filesPair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
}

func (p *pipes) closeChildEnds() {
	for _, fd := range []*int{&p.report, &p.control, &p.late} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

func (p *pipes) closeLates() {
	if p.lates >= 0 {
		unix.Close(p.lates)
		p.lates = -1
	}
}

func (p *pipes) close() {
	p.closeChildEnds()
	p.closeLates()
	p.reports.Close()
	unix.Close(p.answers)
}
