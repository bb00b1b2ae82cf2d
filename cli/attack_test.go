package cli

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestAttackUser: a user that is no number as a whole is refused and never taken for another, such as root (CVE-2026-30892,
// CVE-2024-40635).
func TestAttackUser(t *testing.T) {
	for _, text := range []string{"1000:", ":1000", ":", "abc", "-1", "+5", "4294967296", "18446744073709551616", "1000x", " 1000", "1000 ", "0x10",
		"1_000", "1000:1000:1000", "1000:-1", "1e3", "\x00", "root", "1000:root"} {
		u := specs.User{UID: 7, GID: 7}
		c := &call{opts: options{"user": {text}}}
		if err := c.execUser(&u); err == nil || !strings.Contains(err.Error(), "option --user") {
			t.Errorf("%q: %+v, %v", text, u, err)
		}
	}
	u := specs.User{}
	if err := (&call{opts: options{"user": {"4294967294:5"}}}).execUser(&u); err != nil || u.UID != 4294967294 || u.GID != 5 {
		t.Errorf("%+v, %v", u, err)
	}
}
