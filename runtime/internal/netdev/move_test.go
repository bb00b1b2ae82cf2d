package netdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// network is a network namespace of a test.
type network struct {
	*Conn
	ns *os.File
}

// enterNetwork moves the calling goroutine's thread, which is not given back, into a new network namespace.
func enterNetwork() (*network, error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	c, err := Dial()
	return &network{c, ns}, err
}

// networks enters a new network namespace and makes another.
func networks(t *testing.T) (from, to *network) {
	t.Helper()
	from, err := enterNetwork()
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan error)
	go func() {
		var err error
		to, err = enterNetwork()
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range []*network{from, to} {
			n.Close()
			n.ns.Close()
		}
	})
	return from, to
}

// ip runs busybox's ip in the network of the calling thread.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("/bin/busybox", append([]string{"ip"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// addVeth makes a device with its peer.
func addVeth(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("/bin/busybox", "ip", "link", "add", name, "type", "veth").CombinedOutput(); err != nil {
		t.Skipf("the kernel has no veth devices (CONFIG_VETH): %s", out)
	}
}

// look describes a device: what must survive, and its addresses; "none" when it is not there.
func (n *network) look(t *testing.T, name string) string {
	t.Helper()
	l, err := n.link(name)
	if errors.Is(err, unix.ENODEV) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := n.request(unix.RTM_GETLINK, unix.NLM_F_ACK, ifinfomsg(l.index, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	s := "down"
	if l.flags&unix.IFF_UP != 0 {
		s = "up"
	}
	for kind, value := range parseAttrs(list[0].body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_MTU:
			s += fmt.Sprintf(" mtu %d", order.Uint32(value))
		case unix.IFLA_ADDRESS:
			s += fmt.Sprintf(" mac %x", value)
		}
	}
	addrs, err := n.addresses(l.index)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, a := range addrs {
		text = append(text, a.String())
	}
	slices.Sort(text)
	return strings.TrimRight(s+" "+strings.Join(text, " "), " ")
}

// dress gives a device a hardware address, an MTU and addresses of all sorts.
func (n *network) dress(t *testing.T, name string) {
	t.Helper()
	ip(t, "link", "set", name, "address", "02:00:00:00:00:07", "mtu", "1400")
	ip(t, "link", "set", name, "up")
	ip(t, "addr", "add", "192.0.2.5/24", "broadcast", "192.0.2.255", "dev", name)
	ip(t, "addr", "add", "192.0.2.6/24", "dev", name)
	ip(t, "addr", "add", "169.254.7.7/16", "scope", "link", "dev", name)
	if !ipv6() {
		return
	}
	l, err := n.link(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []byte{1, 2} {
		header := make([]byte, unix.SizeofIfAddrmsg)
		header[0], header[1] = unix.AF_INET6, 64
		order.PutUint32(header[4:], uint32(l.index))
		attrs := []attr{{unix.IFA_ADDRESS, []byte{0x20, 1, 0xd, 0xb8, 15: last}}}
		if last == 2 { // for an hour, as a router's
			lifetime := make([]byte, 16) // struct ifa_cacheinfo
			order.PutUint32(lifetime, 3600)
			order.PutUint32(lifetime[4:], 3600)
			attrs = append(attrs, attr{unix.IFA_CACHEINFO, lifetime})
		}
		if _, err := n.request(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE, header, attrs...); err != nil {
			t.Fatal(err)
		}
	}
}

// dressed is what look says of a device after dress, and bare what it says of none.
var dressed = "mtu 1400 mac 020000000007 192.0.2.5/24 192.0.2.6/24" + map[bool]string{true: " 2001:db8::1/64", false: ""}[ipv6()]

const bare = "none"

// ipv6 tells whether the kernel has IPv6.
func ipv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// TestMove: names, templates, and what a device keeps, there and back.
func TestMove(t *testing.T) {
	from, to := networks(t)
	for _, tc := range []struct{ rename, want string }{{"", "one"}, {"eth0", "eth0"}, {"net%d", "net0"}, {"one", "one"}} {
		addVeth(t, "one")
		from.dress(t, "one")
		if got := from.look(t, "one"); got != "up "+dressed {
			t.Fatalf("before: %s", got)
		}
		m, err := Move(from.Conn, to.Conn, int(to.ns.Fd()), "one", tc.rename)
		if err != nil {
			t.Fatalf("move to %q: %v", tc.rename, err)
		}
		if got := from.look(t, "one"); got != bare {
			t.Errorf("left: %s", got)
		}
		if got := to.look(t, tc.want); got != "up "+dressed {
			t.Errorf("moved: %s", got)
		}
		if err := m.Undo(); err != nil {
			t.Fatal(err)
		}
		if a, b := from.look(t, "one"), to.look(t, tc.want); a != "up "+dressed || b != bare {
			t.Errorf("moved back: %s, left %s", a, b)
		}
		ip(t, "link", "del", "one")
	}
}

// TestMoveTemplate: the kernel takes the first free number.
func TestMoveTemplate(t *testing.T) {
	from, to := networks(t)
	for i := range 3 {
		addVeth(t, "one")
		if _, err := Move(from.Conn, to.Conn, int(to.ns.Fd()), "one", "eth%d"); err != nil {
			t.Fatal(err)
		}
		if got := to.look(t, fmt.Sprintf("eth%d", i)); !strings.HasPrefix(got, "up ") {
			t.Errorf("eth%d: %s", i, got)
		}
	}
}

// TestMoveFails: whenever it fails, the device is where and what it was.
func TestMoveFails(t *testing.T) {
	from, to := networks(t)
	addVeth(t, "one")
	from.dress(t, "one")
	addVeth(t, "two")
	if _, err := Move(from.Conn, to.Conn, int(to.ns.Fd()), "two", "taken"); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "set", "lo", "up")
	for _, tc := range []struct {
		name, rename string
		ns           uintptr
		want         error
		text         string
	}{
		{"none", "", to.ns.Fd(), unix.ENODEV, "find the device"},
		{"one", "taken", to.ns.Fd(), unix.EEXIST, "the container's network has a device taken"},
		{"one", "a/b", to.ns.Fd(), unix.EINVAL, "name the device a/b"},
		{"one", "a%d%d", to.ns.Fd(), unix.EINVAL, "name the device a%d%d"},
		{"one", "", ^uintptr(0) >> 33, nil, "move the device into the network namespace"},
		{"lo", "lo1", to.ns.Fd(), unix.EINVAL, "move the device into the network namespace"},
	} {
		_, err := Move(from.Conn, to.Conn, int(tc.ns), tc.name, tc.rename)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s to %q: %v", tc.name, tc.rename, err)
		}
		if got := from.look(t, "one"); got != "up "+dressed {
			t.Errorf("after %s to %q: %s", tc.name, tc.rename, got)
		}
		if l, err := from.link("lo"); err != nil || l.flags&unix.IFF_UP == 0 {
			t.Errorf("after %s: lo %+v %v", tc.name, l, err)
		}
	}
}

// TestParseAttrs: what is cut off is left out.
func TestParseAttrs(t *testing.T) {
	whole := appendAttr(appendAttr(nil, text(3, "name")), number(4, 1500))
	for n := range len(whole) {
		for kind, value := range parseAttrs(whole[:n]) {
			if kind != 3 && kind != 4 || len(value) > 5 {
				t.Errorf("%d of %d bytes: attribute %d %q", n, len(whole), kind, value)
			}
		}
	}
	var got []string
	for kind, value := range parseAttrs(whole) {
		got = append(got, fmt.Sprintf("%d %q", kind, value))
	}
	if want := []string{`3 "name\x00"`, `4 "\xdc\x05\x00\x00"`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
