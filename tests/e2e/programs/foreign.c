/* SPDX-License-Identifier: GPL-2.0-only */
/* System calls the 32-bit way, from a program of 64 bits. */
#include "steps.h"

static long call(long nr, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

int main(void)
{
	int fd = open("/dev/null", O_RDONLY);

	printf("getpid: %d\n", call(20, 0, 0, 0) == getpid());
	printf("status: %ld\n", call(54, fd, VFIO_GROUP_GET_STATUS, 0));
	printf("io_uring: %ld\n", call(425, 1, 0, 0));
	return 0;
}
