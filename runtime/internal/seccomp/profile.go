package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// profile is a checked linux.seccomp in the kernel's numbers.
type profile struct {
	defaultRet uint32
	abis       [][]abi // those of the profile, in the groups of machines
	rules      []rule  // in the profile's order
	flags      uint32
	notify     bool
	warnings   []string
}

// rule is one name of one entry of linux.seccomp.syscalls, with one of its sets of conditions.
type rule struct {
	entry int    // index in linux.seccomp.syscalls, for messages
	row   int    // of the name in syscallNumbers
	ret   uint32 // equal to the default for a rule that only makes its name a known one
	conds []cond // in the order of their arguments, each with another one; all must hold
}

// parse checks p and puts it in the kernel's numbers.
func parse(p *specs.LinuxSeccomp, o Options) (*profile, error) {
	var prof profile
	var err error
	if prof.defaultRet, err = parseAction(p.DefaultAction, p.DefaultErrnoRet, "linux.seccomp.default", "Action", "ErrnoRet"); err != nil {
		return nil, err
	}
	if prof.defaultRet == retUserNotif {
		// As in runc. Before execve our own calls would wait for an agent that does not have the listener yet.
		return nil, fmt.Errorf("linux.seccomp.defaultAction: %s cannot be the default action", p.DefaultAction)
	}
	if prof.abis, err = parseArchs(p.Architectures, o.Arch); err != nil {
		return nil, err
	}
	names := 0
	for _, s := range p.Syscalls {
		names += len(s.Names)
	}
	prof.rules = make([]rule, 0, names)
	for i, s := range p.Syscalls {
		if err := prof.addEntry(i, s); err != nil {
			return nil, err
		}
	}
	if prof.flags, err = parseFlags(p.Flags, o.SupportedFlags, prof.notify); err != nil {
		return nil, err
	}
	if err := checkListener(p, prof.notify); err != nil {
		return nil, err
	}
	return &prof, nil
}

// parseAction returns what a filter returns for an action. The properties' names, for errors, are path+actionKey and
// path+errnoKey.
func parseAction(name specs.LinuxSeccompAction, errnoRet *uint, path, actionKey, errnoKey string) (uint32, error) {
	i := slices.IndexFunc(actions[:], func(a action) bool { return a.name == name })
	if i < 0 {
		return 0, fmt.Errorf("%s%s: unknown action %q", path, actionKey, name)
	}
	a := actions[i]
	if errnoRet == nil {
		if a.maxData > 0 {
			return a.ret | eperm, nil
		}
		return a.ret, nil
	}
	if a.maxData == 0 {
		// The runtime-spec asks for an error, crun has one.
		return 0, fmt.Errorf("%s%s: %s takes no errno", path, errnoKey, name)
	}
	if *errnoRet > a.maxData {
		// runc cuts it to 16 bits, which would make success of 65536.
		return 0, fmt.Errorf("%s%s: %d is out of range, %s takes 0 to %d", path, errnoKey, *errnoRet, name, a.maxData)
	}
	return a.ret | uint32(*errnoRet), nil
}

// parseArchs returns the machine's native ABI and those of its others that names lists.
func parseArchs(names []specs.Arch, machine Arch) ([][]abi, error) {
	for i, name := range names {
		if !slices.Contains(archs[:], name) {
			return nil, fmt.Errorf("linux.seccomp.architectures[%d]: unknown architecture %q", i, name)
		}
	}
	if machine != AMD64 && machine != ARM64 {
		return nil, fmt.Errorf("compile linux.seccomp: unsupported machine %d", machine)
	}
	var groups [][]abi
	for _, all := range machines[machine] {
		var group []abi
		for _, a := range all {
			native := a == machines[machine][0][0]
			if native || slices.Contains(names, abis[a].arch) {
				group = append(group, a)
			}
		}
		if group != nil {
			groups = append(groups, group)
		}
	}
	return groups, nil
}

// addEntry adds linux.seccomp.syscalls[entry].
func (p *profile) addEntry(entry int, s specs.LinuxSyscall) error {
	path := fmt.Sprintf("linux.seccomp.syscalls[%d]", entry)
	ret, err := parseAction(s.Action, s.ErrnoRet, path, ".action", ".errnoRet")
	if err != nil {
		return err
	}
	if ret == retUserNotif {
		p.notify = true
	}
	sets, err := parseArgs(s.Args, path)
	if err != nil {
		return err
	}
	if len(s.Names) == 0 {
		p.warnings = append(p.warnings, path+".names: empty, the entry has no effect")
	}
	for i, name := range s.Names {
		if name == "" {
			return fmt.Errorf("%s.names[%d]: empty name", path, i)
		}
		if name == "write" && ret == retUserNotif {
			// As in runc: after the filter is in place, the process still has to tell that it is.
			return fmt.Errorf("%s.names[%d]: %s cannot be used for write", path, i, s.Action)
		}
		row, ok := lookup(name)
		if !ok {
			p.warnings = append(p.warnings, fmt.Sprintf("%s.names[%d]: unknown system call %q", path, i, name))
			continue
		}
		for _, conds := range sets {
			p.rules = append(p.rules, rule{entry, row, ret, conds})
		}
	}
	return nil
}

// parseArgs returns the sets of conditions of which one must hold: a single one, unless two conditions are on the same
// argument. Then each stands for itself, as in runc and crun.
func parseArgs(args []specs.LinuxSeccompArg, path string) ([][]cond, error) {
	var all []cond
	var perArg [6]int
	split := false
	for i, arg := range args {
		if !slices.Contains(operators[:], arg.Op) {
			return nil, fmt.Errorf("%s.args[%d].op: unknown operator %q", path, i, arg.Op)
		}
		if arg.Index >= uint(len(perArg)) {
			return nil, fmt.Errorf("%s.args[%d].index: %d is out of range, a system call has the arguments 0 to 5", path, i, arg.Index)
		}
		perArg[arg.Index]++
		split = split || perArg[arg.Index] > 1
		all = append(all, newCond(arg))
	}
	if !split {
		slices.SortFunc(all, func(a, b cond) int { return int(a.arg) - int(b.arg) })
		return [][]cond{all}, nil
	}
	var sets [][]cond
	for i := range all {
		sets = append(sets, all[i:i+1])
	}
	return sets, nil
}

// parseFlags returns the flags for seccomp(2).
func parseFlags(names []specs.LinuxSeccompFlag, supported uint32, notify bool) (uint32, error) {
	var bits uint32
	if names == nil {
		// As in runc and crun; an empty list is how to ask for no flag.
		bits = FlagSpecAllow & supported
	}
	for i, name := range names {
		j := slices.IndexFunc(flags[:], func(f flag) bool { return f.name == name })
		if j < 0 {
			return 0, fmt.Errorf("linux.seccomp.flags[%d]: unknown flag %q", i, name)
		}
		bit := flags[j].bit
		if bit&supported == 0 {
			return 0, fmt.Errorf("linux.seccomp.flags[%d]: the kernel has no %s", i, name)
		}
		if bit == FlagWaitKillableRecv && !notify {
			// The kernel's answer would be EINVAL.
			return 0, fmt.Errorf("linux.seccomp.flags[%d]: %s needs a rule with %s", i, name, specs.ActNotify)
		}
		bits |= bit &^ FlagTSync
	}
	if notify {
		bits |= FlagNewListener
	}
	return bits, nil
}

// checkListener checks that there is a receiver of notifications if there are any.
func checkListener(p *specs.LinuxSeccomp, notify bool) error {
	if notify && p.ListenerPath == "" {
		return fmt.Errorf("linux.seccomp.listenerPath: empty, but a rule has %s", specs.ActNotify)
	}
	if p.ListenerMetadata != "" && p.ListenerPath == "" {
		return fmt.Errorf("linux.seccomp.listenerMetadata: set without linux.seccomp.listenerPath")
	}
	return nil
}
