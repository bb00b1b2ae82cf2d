package plan

import "testing"

func TestParseList(t *testing.T) {
	for list, want := range map[string]string{
		"0": "0", "0-3,7": "0-3,7", " 7 ,, 0-1 ,2": "0-2,7", "63-64": "63-64", "5,5-5": "5", "127": "127",
	} {
		m, err := parseList(list, 128)
		if err != nil || m.String() != want {
			t.Errorf("%q: %s, %v, want %s", list, m, err, want)
		}
	}
	for _, list := range []string{"", " ", ",", "x", "-1", "1-", "2-1", "1-2-3", "128", "0-128", "0-4294967295", "99999999999999999999", "0x1", "+1"} {
		if m, err := parseList(list, 128); err == nil {
			t.Errorf("%q: %s, want an error", list, m)
		}
	}
}
