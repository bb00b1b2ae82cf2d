//go:build linux && cgo && seccomp

#include "intercept.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct intercepted intercepted;

static int listener;

static int installs_filter(const struct seccomp_data *d)
{
	if (d->args[2] == 0)
		return 0; /* libseccomp probes for flags with a null program */
	if (d->nr == __NR_seccomp)
		return d->args[0] == SECCOMP_SET_MODE_FILTER;
	return d->nr == __NR_prctl && d->args[0] == PR_SET_SECCOMP && d->args[1] == SECCOMP_MODE_FILTER;
}

static void *supervise(void *unused)
{
	(void)unused;
	for (;;) {
		struct seccomp_notif req;
		struct seccomp_notif_resp resp;

		memset(&req, 0, sizeof(req));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) != 0) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			abort();
		}
		memset(&resp, 0, sizeof(resp));
		resp.id = req.id;
		if (installs_filter(&req.data)) {
			/* The asking thread is one of ours and waits: its memory can be read in place. */
			const struct sock_fprog *prog = (const void *)(unsigned long)req.data.args[2];

			intercepted.flags = req.data.nr == __NR_seccomp ? req.data.args[1] : 0;
			intercepted.len = prog->len;
			memcpy(intercepted.insns, prog->filter, prog->len * sizeof(struct sock_filter));
		} else {
			resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		}
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) != 0 && errno != ENOENT)
			abort();
	}
}

int intercept_start(void)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_seccomp, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_prctl, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog prog = { sizeof(insns) / sizeof(insns[0]), insns };
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return errno;
	listener = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	if (listener < 0)
		return errno;
	/* The supervisor inherits the filter, and calls neither seccomp(2) nor prctl(2). */
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, supervise, NULL);
	pthread_attr_destroy(&attr);
	return err;
}
