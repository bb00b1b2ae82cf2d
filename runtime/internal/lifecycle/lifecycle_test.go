package lifecycle

import "testing"

// TestDecide holds the whole table against the rules of the task API, stated the other way round: what is allowed.
func TestDecide(t *testing.T) {
	allowed := map[State][]Request{
		Created: {Start, AddExec, StartExec, Kill, KillAll, Update, Delete, Stats, Pids},
		Running: {AddExec, StartExec, Kill, KillAll, Pause, Update, Stats, Pids, Checkpoint},
		Paused:  {Kill, KillAll, Resume, Update, Stats, Pids, Checkpoint},
		Stopped: {KillAll, Delete, Stats},
	}
	for s := State(0); s < numStates; s++ {
		for r := Request(0); r < numRequests; r++ {
			want := false
			for _, a := range allowed[s] {
				want = want || a == r
			}
			if got := Decide(s, r); (got == Allowed) != want {
				t.Errorf("state %s, request %d: reason %d, want allowed %t", s, r, got, want)
			}
		}
	}
	if Decide(numStates, Start) == Allowed || Decide(Created, numRequests) == Allowed {
		t.Error("an unknown state or request is allowed")
	}
}
