// Package lifecycle decides what may be asked of a container in which state.
//
//	         create            start             exit
//	(none) ---------> created --------> running ------> stopped ----> deleted
//	 creating          |                |   ^              ^    delete
//	                   |          pause v   | resume       |
//	                   |                paused ------------+
//	                   +-----------------------------------+  exit (killed before start)
//
// It is pure: Decide is a total table, tested for every pair.
package lifecycle

// State is where a container is in its life.
type State uint8

// The states.
const (
	Creating State = iota
	Created
	Running
	Paused
	Stopped
	Deleted
	numStates
)

func (s State) String() string {
	return [...]string{"creating", "created", "running", "paused", "stopped", "deleted"}[s]
}

// Request is what a caller asks.
type Request uint8

// The requests.
const (
	Start Request = iota
	AddExec
	StartExec
	Kill
	KillAll
	Pause
	Resume
	Update
	Delete
	Stats
	Pids
	Checkpoint
	numRequests
)

// Reason says why a request is refused; Allowed that it is not.
type Reason uint8

// The reasons.
const (
	Allowed Reason = iota
	NotYetCreated
	AlreadyStarted  // start of a running container
	IsPaused        // needs a running container
	IsStopped       // needs a live process
	IsDeleted       // there is no such container any more
	NotRunning      // pause, checkpoint of a container that was never started
	NotPaused       // resume of one that is not
	StillAlive      // delete of one that runs
	InitGone        // start of an exec after init ended
	ProcessFinished // kill of what has ended
	AlreadyPaused   // pause of a paused one
)

// Decide says whether a request may be carried out in a state.
func Decide(s State, r Request) Reason {
	if s >= numStates || r >= numRequests {
		return NotYetCreated
	}
	return table[s][r]
}

var table = [numStates][numRequests]Reason{
	Creating: {
		Start: NotYetCreated, AddExec: NotYetCreated, StartExec: NotYetCreated, Kill: NotYetCreated, KillAll: NotYetCreated,
		Pause: NotYetCreated, Resume: NotYetCreated, Update: NotYetCreated, Delete: NotYetCreated, Stats: NotYetCreated,
		Pids: NotYetCreated, Checkpoint: NotYetCreated,
	},
	Created: {
		Pause: NotRunning, Resume: NotPaused, Checkpoint: NotRunning,
	},
	Running: {
		Start: AlreadyStarted, Resume: NotPaused, Delete: StillAlive,
	},
	Paused: {
		Start: IsPaused, AddExec: IsPaused, StartExec: IsPaused, Pause: AlreadyPaused, Delete: StillAlive,
	},
	Stopped: {
		Start: IsStopped, AddExec: IsStopped, StartExec: InitGone, Kill: ProcessFinished, KillAll: Allowed, Pause: IsStopped,
		Resume: IsStopped, Update: IsStopped, Pids: IsStopped, Checkpoint: IsStopped,
	},
	Deleted: {
		Start: IsDeleted, AddExec: IsDeleted, StartExec: IsDeleted, Kill: IsDeleted, KillAll: IsDeleted, Pause: IsDeleted,
		Resume: IsDeleted, Update: IsDeleted, Delete: IsDeleted, Stats: IsDeleted, Pids: IsDeleted, Checkpoint: IsDeleted,
	},
}
