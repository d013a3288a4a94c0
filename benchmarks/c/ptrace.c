/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ptrace [-t] PROGRAM ARGS...: the same answers through ptrace, stopped by seccomp's RET_TRACE, which
 * is the faster of ptrace's two ways: one stop for each intercepted call and none for any other.
 */
#define _GNU_SOURCE
#include "answer.h"

#include <sys/ptrace.h>
#include <sys/user.h>

static void become(char **argv)
{
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
		die("PTRACE_TRACEME");
	if (install_filter(SECCOMP_RET_TRACE, 0))
		die("seccomp");
	execvp(argv[0], argv);
	die(argv[0]);
}

/* Answer the call that `tid` is stopped in; the kernel skips a call whose number is -1. */
static void answer(pid_t tid)
{
	struct user_regs_struct registers;

	if (ptrace(PTRACE_GETREGS, tid, 0, &registers))
		return; /* killed meanwhile */
	mark(RECEIVE);
	struct call call = {
		.tid = tid,
		.fd = registers.rdi,
		.request = registers.rsi,
		.argument = registers.rdx,
	};
	drain();
	look(&call);
	registers.orig_rax = -1;
	registers.rax = -decide(&call);
	ptrace(PTRACE_SETREGS, tid, 0, &registers);
}

static int serve(void)
{
	int status;

	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0)
			die("waitpid");
		if (!WIFSTOPPED(status)) {
			print_steps();
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		int event = status >> 16, signal = event ? 0 : WSTOPSIG(status);
		if (event == PTRACE_EVENT_SECCOMP)
			answer(tid);
		ptrace(PTRACE_CONT, tid, 0, signal);
		mark(RESUME);
	}
}

int main(int argc, char **argv)
{
	char **program = start(argc, argv);
	int status;
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child)
		become(program);
	if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
		die("the program did not start");
	if (ptrace(PTRACE_SETOPTIONS, child, 0,
		   PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL))
		die("PTRACE_SETOPTIONS");
	ptrace(PTRACE_CONT, child, 0, 0);
	return serve();
}
