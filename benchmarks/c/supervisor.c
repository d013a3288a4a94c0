/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * supervisor [-t] PROGRAM ARGS...: the yardstick. It answers with seccomp user notification, in C,
 * with the system calls that kvm-vfio makes for the same ioctls, and nothing else.
 */
#define _GNU_SOURCE
#include "answer.h"

#include <sys/socket.h>

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
#endif

/* The program's exit is ours. A handler, because older kernels leave RECV waiting for ever. */
static void program_ended(int signal)
{
	int status, error = errno;

	(void)signal;
	if (waitpid(-1, &status, WNOHANG) > 0) {
		print_steps();
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	errno = error;
}

/* In the child: install, tell the parent our number for the listener, wait until it has its own. */
static void become(char **argv, int parent)
{
	char done;
	int listener = install_filter(SECCOMP_RET_USER_NOTIF,
				      SECCOMP_FILTER_FLAG_NEW_LISTENER |
					      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);

	if (listener < 0)
		die("seccomp");
	if (write(parent, &listener, sizeof(listener)) < 0 || read(parent, &done, 1) != 1)
		die("the supervisor is gone");
	execvp(argv[0], argv);
	die(argv[0]);
}

static int listener_of(pid_t program, int child)
{
	int number;

	if (read(child, &number, sizeof(number)) != sizeof(number))
		die("the program is gone");
	int pidfd = syscall(SYS_pidfd_open, program, 0);
	int listener = syscall(SYS_pidfd_getfd, pidfd, number, 0);
	if (listener < 0 || write(child, "", 1) != 1)
		die("pidfd_getfd");
	close(pidfd);
	close(child);
	return listener;
}

static void serve(int listener)
{
	for (;;) {
		struct seccomp_notif notification = { 0 };
		struct seccomp_notif_resp response = { 0 };

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification)) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			die("RECV");
		}
		mark(RECEIVE);
		struct call call = {
			.tid = notification.pid,
			.fd = notification.data.args[0],
			.request = notification.data.args[1],
			.argument = notification.data.args[2],
			.reads = notification.data.nr == SYS_pread64,
		};
		drain();
		if (call.reads) {
			call.argument = notification.data.args[1];
			response.id = notification.id;
			response.error = -read_config(&call);
			response.val = response.error ? 0 : 4;
			if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) && errno != ENOENT)
				die("SEND");
			continue;
		}
		look(&call);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notification.id))
			continue;
		mark(STILL_VALID);
		response.id = notification.id;
		response.error = -decide(&call);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) && errno != ENOENT)
			die("SEND");
		mark(RESUME);
	}
}

int main(int argc, char **argv)
{
	char **program = start(argc, argv);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child)
		become(program, pair[1]);
	close(pair[1]);
	int listener = listener_of(child, pair[0]);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	struct sigaction ended = { .sa_handler = program_ended };
	sigaction(SIGCHLD, &ended, NULL);
	program_ended(SIGCHLD); /* it may have ended already */
	serve(listener);
}
