package bootstrap

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// schedCore puts this process group, and with it the daemon, under a core scheduling cookie of its own when containerd asks
// for it.
func schedCore() error {
	if os.Getenv("SCHED_CORE") == "" {
		return nil
	}
	const processGroup = 2 // PIDTYPE_PGID
	if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, processGroup, 0); err != nil {
		return fmt.Errorf("enable core scheduling: %w", err)
	}
	return nil
}

const maxOOMScoreAdj = 1000

// raiseOOMScore makes the kernel kill the daemon, which inherits the score, rather than containerd.
func raiseOOMScore() error {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/oom_score_adj")
	if err != nil {
		return fmt.Errorf("read oom score of containerd: %w", err)
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read oom score of containerd: %w", err)
	}
	score = min(score+1, maxOOMScoreAdj)
	err = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return nil // this process was already above containerd, and only root may go down
	}
	if err != nil {
		return fmt.Errorf("set oom score: %w", err)
	}
	return nil
}

// joinCgroup moves the process into the cgroup at path: in the unified hierarchy, or in every v1 hierarchy that has it.
func joinCgroup(pid int, path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return fmt.Errorf("join cgroup %s: statfs /sys/fs/cgroup: %w", path, err)
	}
	mounts := []string{"/sys/fs/cgroup"}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		f, err := os.Open("/proc/self/mountinfo")
		if err != nil {
			return fmt.Errorf("join cgroup %s: %w", path, err)
		}
		defer f.Close()
		mounts = cgroup1Mounts(bufio.NewScanner(f))
	}
	joined := false
	for _, mount := range mounts {
		dir := filepath.Join(mount, filepath.Join("/", path)) // ".." does not lead out of the hierarchy
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("join cgroup %s: %w", path, err)
		}
		joined = true
	}
	if !joined {
		return fmt.Errorf("join cgroup %s: %w", path, fs.ErrNotExist)
	}
	return nil
}

// cgroup1Mounts returns the mount points of the v1 hierarchies in a mountinfo.
func cgroup1Mounts(mountinfo *bufio.Scanner) []string {
	var mounts []string
	for mountinfo.Scan() {
		// ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELDS] - TYPE SOURCE SUPEROPTIONS
		before, after, _ := strings.Cut(mountinfo.Text(), " - ")
		fields := strings.Fields(before)
		if fstype, _, _ := strings.Cut(after, " "); fstype == "cgroup" && len(fields) > 4 {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts
}
