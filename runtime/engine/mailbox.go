package engine

import (
	"context"
	"sync"
)

// mailbox holds what a container's driver has to do: exits before requests, each in the order of arrival.
type mailbox struct {
	mu       sync.Mutex
	exits    []func()
	requests []func()
	closed   bool
	wake     chan struct{} // one token when there may be something
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(queue *[]func(), f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	*queue = append(*queue, f)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// exit posts news of the kernel; it is dropped when the driver has ended.
func (m *mailbox) exit(f func()) { m.put(&m.exits, f) }

// next returns what is to be done next; nil when there is nothing.
func (m *mailbox) next() func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, queue := range []*[]func(){&m.exits, &m.requests} {
		if len(*queue) > 0 {
			f := (*queue)[0]
			(*queue)[0] = nil
			*queue = (*queue)[1:]
			return f
		}
	}
	return nil
}

// drive carries out everything that arrives until stop is closed.
func (m *mailbox) drive(stop <-chan struct{}) {
	for {
		for f := m.next(); f != nil; f = m.next() {
			f()
		}
		select {
		case <-m.wake:
		case <-stop:
			m.mu.Lock()
			m.closed = true
			m.mu.Unlock()
			for f := m.next(); f != nil; f = m.next() {
				f()
			}
			return
		}
	}
}

// errGone is the answer of a driver that has ended.
var errGone = &Error{Kind: NotFound, Msg: "container does not exist"}

// ask runs f on the driver and returns its answer. f may answer later, from another goroutine: it gets the function to do
// so. When ctx ends first, the request may still be carried out.
func (m *mailbox) ask(ctx context.Context, f func(answer func(error))) error {
	reply := make(chan error, 1)
	if !m.put(&m.requests, func() {
		if ctx.Err() != nil {
			reply <- ctx.Err()
			return
		}
		f(func(err error) { reply <- err })
	}) {
		return errGone
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
