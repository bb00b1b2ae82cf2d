package cli

import "testing"

// TestRegex: crun's --regex, for many containers at once.
func TestRegex(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	for _, id := range []string{"web-1", "web-2", "db-1"} {
		r.spec.Linux.CgroupsPath = r.cgroups + "/" + id
		r.writeConfig()
		r.ok("create", id)
	}
	r.ok("kill", "--regex", "web-.", "KILL")
	r.stopped("web-1")
	r.stopped("web-2")
	r.fails("web-1: container not running", "kill", "-r", "web-1|db-.*|web", "CONT") // but db-1 got it
	r.ok("delete", "-r", "web-[12]")
	if out := r.ok("list", "-q"); out != "db-1\n" {
		t.Errorf("left: %q", out)
	}
	r.fails("option --regex", "delete", "-r", "(")
	r.ok("delete", "-f", "--regex", ".*")
}
