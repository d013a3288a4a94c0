/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What both C supervisors do for one intercepted KVM_SET_DEVICE_ATTR or KVM_HAS_DEVICE_ATTR, and
 * for a pread64 of a device's configuration space.
 *
 * The point of comparison is the system calls: read the program's memory, identify the device's
 * file and the group's file, notice files that were closed. What is decided from that is a toy with
 * the right answers, since its cost does not show beside them.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Where configuration space is in a device's file; hardly another file is that long. */
#define CONFIG_OFFSET (7ull << 40)

/* One intercepted call, and what was found out about it. */
struct call {
	pid_t tid;
	int reads; /* it is a pread64 */
	int fd;
	uint32_t request;
	uint64_t argument;
	struct kvm_device_attr attr;
	int group_fd;
	int error; /* errno that looking already decided, else 0 */
	int device, group; /* indices into `files` */
};

/* Where the time goes, with -t: the steps of one call, in order. */
enum step { RECEIVE, DRAIN, READ_ATTR, LINK_DEVICE, READ_FD, LINK_GROUP, STILL_VALID, RESUME, STEPS };
enum { SAMPLES = 1 << 20, FILES = 16 };
static uint32_t *samples[STEPS];
static size_t taken[STEPS];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void mark(enum step step)
{
	static uint64_t before;

	if (!samples[0])
		return;
	uint64_t at = now();
	if (taken[step] < SAMPLES)
		samples[step][taken[step]++] = at - before;
	before = now();
}

static int by_value(const void *a, const void *b)
{
	return (*(uint32_t *)a > *(uint32_t *)b) - (*(uint32_t *)a < *(uint32_t *)b);
}

static void print_steps(void)
{
	static const char *const names[STEPS] = {
		"wait and receive", "drain releases", "read the attribute",
		"identify the device's file", "read the fd", "identify the group's file",
		"still valid", "send (with synchronous wake-up, the program's turn too)",
	};

	for (int i = 0; i < STEPS && samples[0]; i++) {
		if (!taken[i])
			continue;
		qsort(samples[i], taken[i], sizeof(uint32_t), by_value);
		fprintf(stderr, "%7.2f us  %s\n", samples[i][taken[i] / 2] / 1e3, names[i]);
	}
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* Give `action` to the calls in question and let every other system call through. */
static int install_filter(uint32_t action, unsigned int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 9),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3]) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONFIG_OFFSET >> 32, 4, 5),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_SET_DEVICE_ATTR, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_HAS_DEVICE_ATTR, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* Handles on a thread's memory and fds, opened at its first call. */
static struct thread { pid_t tid; int memory, fds; } threads[64];

static struct thread *thread_of(pid_t tid)
{
	struct thread *t = &threads[tid % 64];
	char path[64];

	if (t->tid == tid)
		return t;
	if (t->tid) {
		close(t->memory);
		close(t->fds);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", tid);
	t->memory = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/fd", tid);
	t->fds = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t->tid = tid;
	return t;
}

/* Files seen so far, by the text of their /proc link; each one's last close is watched. */
static struct file { char name[64]; int watch, member; } files[FILES];
static int releases; /* the inotify instance */

static int identify(struct thread *t, int fd)
{
	char number[16], name[sizeof(files[0].name)], path[64];
	int spare = -1;

	snprintf(number, sizeof(number), "%d", fd);
	ssize_t length = readlinkat(t->fds, number, name, sizeof(name) - 1);
	if (length < 0)
		return -1;
	name[length] = 0;
	for (int i = FILES - 1; i >= 0; i--) {
		if (!strcmp(files[i].name, name))
			return i;
		if (!files[i].name[0])
			spare = i;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, fd);
	if (spare < 0 || (files[spare].watch = inotify_add_watch(releases, path, IN_CLOSE)) < 0)
		die("a file cannot be watched");
	strcpy(files[spare].name, name);
	return spare;
}

/* Forget the files that were closed for the last time since the call before. */
static void forget_released(void)
{
	struct inotify_event events[64]; /* the watches are on files, so no names follow */
	ssize_t size = read(releases, events, sizeof(events));

	for (ssize_t n = 0; n < size / (ssize_t)sizeof(*events); n++)
		for (int i = 0; i < FILES; i++)
			if (files[i].name[0] && files[i].watch == events[n].wd)
				memset(&files[i], 0, sizeof(files[i]));
}

static void drain(void)
{
	int pending;

	if (!ioctl(releases, FIONREAD, &pending) && pending)
		forget_released();
	mark(DRAIN);
}

/* Everything that reads the program; nothing that changes a state. */
static void look(struct call *call)
{
	struct thread *t = thread_of(call->tid);

	if (pread(t->memory, &call->attr, sizeof(call->attr), call->argument) !=
	    sizeof(call->attr)) {
		call->error = EFAULT;
		return;
	}
	mark(READ_ATTR);
	call->device = identify(t, call->fd);
	mark(LINK_DEVICE);
	if (call->request == KVM_HAS_DEVICE_ATTR)
		return;
	if (pread(t->memory, &call->group_fd, sizeof(int), call->attr.addr) != sizeof(int)) {
		call->error = EFAULT;
		return;
	}
	mark(READ_FD);
	if ((call->group = identify(t, call->group_fd)) < 0)
		call->error = EBADF;
	mark(LINK_GROUP);
}

/* A pread64: whose file is it, and the bytes into the program. The errno, 0 for success. */
__attribute__((unused)) static int read_config(struct call *call)
{
	static char config[4] = { 0x34, 0x12, (char)0xe8, 0x11 };
	struct iovec from = { config, sizeof(config) }, to = { (void *)call->argument, sizeof(config) };

	if (identify(thread_of(call->tid), call->fd) < 0)
		return EBADF;
	if (process_vm_writev(call->tid, &from, 1, &to, 1, 0) != sizeof(config))
		return EFAULT;
	return 0;
}

/* The errno to answer with, 0 for success. */
static int decide(struct call *call)
{
	if (call->error)
		return call->error;
	if (call->attr.group != KVM_DEV_VFIO_GROUP)
		return ENXIO;
	if (call->attr.attr != KVM_DEV_VFIO_GROUP_ADD && call->attr.attr != KVM_DEV_VFIO_GROUP_DEL)
		return ENXIO;
	if (call->request == KVM_HAS_DEVICE_ATTR)
		return 0;
	int add = call->attr.attr == KVM_DEV_VFIO_GROUP_ADD;
	if (files[call->group].member == add)
		return add ? EEXIST : ENOENT;
	files[call->group].member = add;
	return 0;
}

/* What both start with; the option -t measures the steps. Returns the program's argv. */
static char **start(int argc, char **argv)
{
	int timed = argc > 1 && !strcmp(argv[1], "-t");

	if (argc < 2 + timed) {
		fprintf(stderr, "usage: %s [-t] PROGRAM ARGS...\n", argv[0]);
		exit(2);
	}
	for (int i = 0; i < STEPS && timed; i++)
		if (!(samples[i] = calloc(SAMPLES, sizeof(uint32_t))))
			die("memory for the samples");
	if ((releases = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0)
		die("inotify");
	return argv + 1 + timed;
}

#endif
