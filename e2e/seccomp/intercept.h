#include <linux/filter.h>

/* intercepted is the filter that this thread last tried to install. */
struct intercepted {
	unsigned long flags;
	unsigned short len;
	struct sock_filter insns[65536];
};

extern struct intercepted intercepted;

/* intercept_start makes every attempt of the calling thread to install a seccomp filter fill intercepted and succeed
 * without any effect. Returns 0 or an errno. */
int intercept_start(void);
