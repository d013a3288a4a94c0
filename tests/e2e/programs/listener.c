/* SPDX-License-Identifier: GPL-2.0-only */
/* Use seccomp user notification; with an argument, only ask whether the kernel has it. */
#include "steps.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

static struct sock_filter code[] = { { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW } };
static struct sock_fprog program = { 1, code };

int main(int argc, char **argv)
{
	(void)argv;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (argc > 1) {
		step("ask", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				    SECCOMP_FILTER_FLAG_NEW_LISTENER, NULL));
		step("filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
		return 0;
	}
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	return 0;
}
