/* SPDX-License-Identifier: GPL-2.0-only */
/* Files in the hands of several: dup, fork, vfork, exec, a message on a socket, /proc/self/fd. */
#include "steps.h"

static void pass(int socket, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	step("sendmsg", sendmsg(socket, &message, 0));
}

static int receive(int socket)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 }, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	int fd;

	step("recvmsg", recvmsg(socket, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

static int opens(void)
{
	int group = open("/dev/vfio/1", O_RDWR | O_CLOEXEC);

	if (group >= 0)
		close(group);
	return group < 0 ? group : 0;
}

/* Run again as another program, with these fds. */
static void become(const char *path, int kvm, int vm, int device, int group)
{
	char numbers[4][16];

	snprintf(numbers[0], 16, "%d", vm);
	snprintf(numbers[1], 16, "%d", device);
	snprintf(numbers[2], 16, "%d", group);
	snprintf(numbers[3], 16, "%d", kvm);
	fcntl(vm, F_SETFD, 0);
	fcntl(device, F_SETFD, 0);
	execl(path, path, numbers[0], numbers[1], numbers[2], numbers[3], NULL);
	perror("execl");
	_exit(3);
}

int main(int argc, char **argv)
{
	int pair[2], status;

	if (argc == 5) { /* what exec made of us */
		step("exec: has", attribute(atoi(argv[2]), KVM_HAS_DEVICE_ATTR, 1, 0));
		step("exec: create device", create_device(atoi(argv[1])));
		step("exec: open", opens());
		step("exec: unset container", ioctl(atoi(argv[3]), VFIO_GROUP_UNSET_CONTAINER));
		/* By the inherited /dev/kvm: nothing has been opened since exec. */
		int vm = step("exec: own vm", ioctl(atoi(argv[4]), KVM_CREATE_VM, 0));
		step("exec: own device", create_device(vm));
		step("exec: own device again", create_device(vm));
		return 0;
	}
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int device = create_device(vm), group = open("/dev/vfio/1", O_RDWR);

	step("add", add(device, group));
	int copy = dup(group);
	step("add dup", add(device, copy));
	close(group);
	step("del dup", del(device, copy));
	step("dup holds", opens());
	close(copy);
	step("nobody holds", opens());

	group = open("/dev/vfio/1", O_RDWR);
	if (!fork()) {
		step("child: has", attribute(device, KVM_HAS_DEVICE_ATTR, 1, 0));
		step("child: create device", create_device(vm));
		step("child: open", opens());
		close(group);
		step("child: closed its own", opens());
		_exit(0);
	}
	wait(&status);
	step("after the child", opens());
	step("has", attribute(device, KVM_HAS_DEVICE_ATTR, 1, 0));

	if (!vfork()) {
		if (add(device, group))
			_exit(1);
		become(argv[0], kvm, vm, device, group);
	}
	wait(&status);
	value("vfork", WEXITSTATUS(status));
	step("the parent still may", del(device, group));
	if (!fork())
		become("/no/such/program", kvm, vm, device, group);
	wait(&status);
	value("failed exec", WEXITSTATUS(status));

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	pass(pair[0], group);
	close(group);
	step("in flight", opens());
	group = receive(pair[1]);
	step("received", opens());
	step("add received", add(device, group));
	step("del received", del(device, group));
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", group);
	step("reopen by /proc", open(path, O_RDWR));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", device);
	step("reopen a device by /proc", open(path, O_RDWR));
	int only = open("/dev/vfio/1", O_PATH);
	step("O_PATH", add(device, only));
	int directory = open("/dev/vfio", O_RDONLY | O_DIRECTORY);
	step("openat", openat(directory, "2", O_RDWR));
	step("openat again", openat(directory, "../vfio/./2", O_RDWR));
	unlink("/tmp/kvm-vfio-link");
	symlink("/dev/vfio/3", "/tmp/kvm-vfio-link");
	step("symlink", open("/tmp/kvm-vfio-link", O_RDWR));
	unlink("/tmp/kvm-vfio-link");
	step("no such group", open("/dev/vfio/77", O_RDWR));
	step("read only", open("/dev/vfio/1", O_RDONLY));
	fflush(stdout);
	become(argv[0], kvm, vm, device, group);
}
