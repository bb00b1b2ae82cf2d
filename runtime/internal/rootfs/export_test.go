package rootfs

// MountRelative lets the tests take the way of old kernels on new ones.
func MountRelative(target string, options []string) error {
	return overlayRelative(target, "overlay", parsed{data: options})
}
