/* SPDX-License-Identifier: GPL-2.0-only */
/* old CALL PROGRAM ARGS...: run a program on a kernel that has no such call (or forbids it). */
#include "steps.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void refuse(int nr, int argument, uint32_t value, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[argument])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, value),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("old");
		exit(9);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!strcmp(argv[1], "seccomp")) /* before 5.0, NEW_LISTENER is an unknown flag */
		refuse(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER, EINVAL);
	if (!strcmp(argv[1], "addfd")) /* before 5.9, the listener has no such request */
		refuse(SYS_ioctl, 1, SECCOMP_IOCTL_NOTIF_ADDFD, EINVAL);
	if (!strcmp(argv[1], "unshare"))
		refuse(SYS_unshare, 0, 0, EPERM);
	if (!strcmp(argv[1], "inotify"))
		refuse(SYS_inotify_init1, 0, 0, EMFILE);
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 9;
}
