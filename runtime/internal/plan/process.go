package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// process plans everything between the container's file systems and execve.
func (c *compiler) process() error {
	p, ready := c.spec.Process, Ready{Stop: true}
	if c.facts.User != nil {
		ready.Door = c.types()
	}
	if p == nil {
		c.add("process", ready)
		return nil
	}
	if _, _, err := affinities(p); err != nil { // that of the execs which have none of their own
		return err
	}
	return c.run(p, ready)
}

// console plans the terminal of a checked process.
func console(p *specs.Process, node bool) Console {
	con := Console{Node: node, UID: p.User.UID}
	if s := p.ConsoleSize; s != nil {
		con.Width, con.Height = uint16(s.Width), uint16(s.Height)
	}
	return con
}

// inherit returns the process of an exec with what it leaves open taken from the container's, as runc does.
func inherit(p, container *specs.Process) *specs.Process {
	if container == nil {
		return p
	}
	out := *p
	if out.Capabilities == nil {
		out.Capabilities = container.Capabilities
	}
	if len(out.Rlimits) == 0 {
		out.Rlimits = container.Rlimits
	}
	if out.ApparmorProfile == "" {
		out.ApparmorProfile = container.ApparmorProfile
	}
	if out.SelinuxLabel == "" {
		out.SelinuxLabel = container.SelinuxLabel
	}
	if out.User.Umask == nil {
		out.User.Umask = container.User.Umask
	}
	if out.OOMScoreAdj == nil {
		out.OOMScoreAdj = container.OOMScoreAdj
	}
	if out.Scheduler == nil {
		out.Scheduler = container.Scheduler
	}
	if out.IOPriority == nil {
		out.IOPriority = container.IOPriority
	}
	if out.ExecCPUAffinity == nil {
		out.ExecCPUAffinity = container.ExecCPUAffinity
	}
	return &out
}

// CompileExec returns the plan of one more process in a running container whose config is spec.
func CompileExec(spec *specs.Spec, p *specs.Process, facts *Facts) (*Plan, error) {
	c := &compiler{spec: spec, facts: facts, plan: newPlan(facts), joined: map[Namespaces]bool{}, paths: map[Namespaces]string{}}
	if err := c.validateProcess(p); err != nil {
		return nil, err
	}
	p = inherit(p, spec.Process)
	initial, final, err := affinities(p)
	if err != nil {
		return nil, err
	}
	types := c.types()
	c.clone(types)
	if initial != nil {
		c.add("process.execCPUAffinity.initial", Affinity{CPUs: initial, Early: true})
	}
	c.add("linux.cgroupsPath", EnterCgroup{KeepCPUs: initial != nil || final != nil, Stay: c.facts.NoCgroup})
	if final != nil {
		c.add("process.execCPUAffinity.final", Affinity{CPUs: final})
	}
	score, from := p.OOMScoreAdj, "process.oomScoreAdj"
	if score == nil {
		zero := 0
		score, from = &zero, ""
	}
	c.add(from, ScoreAdj{Value: *score, Best: from == ""})
	c.joinContainer(types, sharesMounts(spec))
	c.newNS |= types & NewUser
	c.keyring(p)
	if p.Terminal {
		c.add("process.terminal", console(p, false))
	}
	if err := c.run(p, Ready{}); err != nil {
		return nil, err
	}
	return c.plan, nil
}

// clone plans the birth of a process that enters a container with namespaces of the given types.
func (c *compiler) clone(types Namespaces) {
	c.add("linux.namespaces", Clone{JoinPid: types&NewPID != 0 && !c.facts.Restricted})
	c.add("", Detach{Dumpable: c.facts.User != nil})
}

// joinContainer plans the way into them, after clone.
func (c *compiler) joinContainer(types Namespaces, root bool) {
	if c.facts.User != nil {
		c.add("", Hide{})
	}
	rest := types &^ NewPID
	if c.facts.Restricted {
		rest = types
	}
	if rest != 0 || root {
		c.add("linux.namespaces", JoinContainer{Types: rest, Root: root})
	}
	if types&NewUser != 0 {
		c.add("linux.namespaces", BecomeRoot{})
	}
	if rest&NewPID != 0 {
		c.add("linux.namespaces", Refork{})
	}
}

func (c *compiler) run(p *specs.Process, ready Ready) error {
	if err := c.mapped(p); err != nil {
		return err
	}
	if p.ApparmorProfile != "" {
		if !c.facts.hasAppArmor() {
			return &Error{"process.apparmorProfile", "AppArmor is not enabled in this kernel"}
		}
		c.add("process.apparmorProfile", Label{File: "apparmor/exec", Value: "exec " + p.ApparmorProfile})
	}
	if p.SelinuxLabel != "" {
		if !c.facts.hasSELinux() {
			return &Error{"process.selinuxLabel", "SELinux is not enabled in this kernel"}
		}
		c.add("process.selinuxLabel", Label{File: "exec", Value: p.SelinuxLabel})
	}
	var filter *seccomp.Filter
	if s := c.spec.Linux.Seccomp; s != nil {
		f, err := c.facts.CompileSeccomp(s)
		if err != nil {
			return err
		}
		if f != nil { // nil: the profile asks for nothing
			c.plan.Notes = append(c.plan.Notes, f.Warnings...)
		}
		filter = f
	}
	limits, err := rlimits(p)
	if err != nil {
		return err
	}
	// What the runtime was started with is no more than what it has: the child gets it back by itself, also in a user namespace over which the
	// runtime has no power, such as one that another user owns.
	c.add("process.rlimits", Limits{Rlimits: limits, Gate: len(limits) > 0 && c.inUserNS()})
	if err := c.attributes(p); err != nil {
		return err
	}
	cred := c.credentials(p)
	if c.bound {
		cred.LastCap = -1
	}
	if filter != nil && !p.NoNewPrivileges {
		// Loading a filter takes no_new_privs or CAP_SYS_ADMIN.
		cred.Keep = capSysAdmin &^ (cred.Caps.Effective & cred.Caps.Permitted)
	}
	c.add("process.user", cred)
	if p.NoNewPrivileges {
		c.add("process.noNewPrivileges", NoNewPrivileges{})
	}
	env, needHome, err := environment(p.Env)
	if err != nil {
		return err
	}
	// A passwd file that is mounted can be read only once it is; the one of the root file system before, which is cheaper.
	lateHome := needHome && ready.Stop && c.mountsPasswd()
	if lateHome {
		c.add("process.env", ReadHome{UID: p.User.UID})
	}
	candidates := candidates(p.Args[0], env)
	c.add("process.args", FindExecutable{Name: p.Args[0], Candidates: candidates})
	load := func() {
		c.add("linux.seccomp", Seccomp{Filter: filter})
		if filter.Notify {
			s := c.spec.Linux.Seccomp
			c.add("linux.seccomp.listenerPath", Listener{Path: s.ListenerPath, Metadata: s.ListenerMetadata})
		}
		if cred.Keep != 0 {
			c.add("process.capabilities", DropCaps{Caps: cred.Caps})
		}
	}
	notify := filter != nil && filter.Notify
	if notify {
		load() // while the caller is there, who hands the listener to the agent; what follows must pass that
	}
	c.add("", ready)
	if ready.Stop {
		c.runHooks("startContainer")
	}
	if filter != nil && !notify {
		load() // as late as can be: what comes after it must pass it
	}
	c.add("process.args", Exec{Args: p.Args, Env: env, Candidates: candidates, NeedHome: needHome && !lateHome, LateHome: lateHome})
	return nil
}

// rlimitNames are the names of RLIMIT_* by number (asm-generic/resource.h; the same on amd64 and arm64).
var rlimitNames = []string{"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO",
	"RLIMIT_RTTIME"}

func rlimits(p *specs.Process) ([]Rlimit, error) {
	var out []Rlimit
	seen := map[string]bool{}
	for i, r := range p.Rlimits {
		at := fmt.Sprintf("process.rlimits[%d]", i)
		n := slices.Index(rlimitNames, r.Type)
		switch {
		case n < 0:
			return nil, &Error{at + ".type", fmt.Sprintf("unknown limit %q", r.Type)}
		case seen[r.Type]:
			return nil, &Error{at, "a second " + r.Type}
		case r.Soft > r.Hard:
			return nil, &Error{at, fmt.Sprintf("%s: soft limit %d above hard limit %d", r.Type, r.Soft, r.Hard)}
		}
		seen[r.Type] = true
		out = append(out, Rlimit{r.Type, n, r.Soft, r.Hard})
	}
	return out, nil
}

func (c *compiler) credentials(p *specs.Process) Credentials {
	cred := Credentials{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids,
		LastCap: c.facts.LastCap, Dir: path.Clean(p.Cwd), Umask: 0o022}
	if p.User.Umask != nil {
		cred.Umask = *p.User.Umask
	}
	granted := c.facts.Capabilities
	if c.inUserNS() {
		// The first process of a user namespace has every capability in it.
		granted = 1<<(c.facts.LastCap+1) - 1
	}
	if s := p.Capabilities; s != nil {
		cred.Caps.Bounding = c.capSet("bounding", s.Bounding, granted)
		cred.Caps.Permitted = c.capSet("permitted", s.Permitted, granted)
		cred.Caps.Effective = c.capSet("effective", s.Effective, granted)
		cred.Caps.Inheritable = c.capSet("inheritable", s.Inheritable, granted)
		cred.Caps.Ambient = c.capSet("ambient", s.Ambient, granted)
		// The kernel raises an ambient capability only if it is permitted and inheritable.
		if lost := cred.Caps.Ambient &^ (cred.Caps.Permitted & cred.Caps.Inheritable); lost != 0 {
			c.warn(fmt.Sprintf("process.capabilities.ambient: %#x is not both permitted and inheritable, left out", lost))
			cred.Caps.Ambient &^= lost
		}
		cred.Caps.Effective &= cred.Caps.Permitted
	}
	return cred
}

// environment drops all but the last of each name, and tells whether HOME is missing or empty.
func environment(env []string) (out []string, needHome bool, err error) {
	last := map[string]int{}
	for i, e := range env {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
			return nil, false, &Error{fmt.Sprintf("process.env[%d]", i), fmt.Sprintf("%q is not NAME=value", e)}
		case strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0):
			return nil, false, &Error{fmt.Sprintf("process.env[%d]", i), name + " contains a NUL byte"}
		}
		last[name] = i
	}
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); last[name] == i && e != "HOME=" {
			out = append(out, e)
		}
	}
	i, ok := last["HOME"]
	return out, !ok || env[i] == "HOME=", nil
}

// mountsPasswd tells whether a mount lies on the container's /etc/passwd.
func (c *compiler) mountsPasswd() bool {
	return slices.ContainsFunc(c.spec.Mounts, func(m specs.Mount) bool {
		d := path.Join("/", m.Destination)
		return d == "/etc" || d == "/etc/passwd"
	})
}

// candidates lists where execvp(3) would look for a program.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	list := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var out []string
	for _, dir := range strings.Split(list, ":") {
		if !path.IsAbs(dir) {
			continue // a relative entry would depend on the working directory; Go's exec.LookPath refuses it too
		}
		if full := path.Join(dir, name); !slices.Contains(out, full) {
			out = append(out, full)
		}
	}
	return out
}
