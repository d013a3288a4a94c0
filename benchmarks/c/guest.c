/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /init of a guest: load /modules, in the order of their names, read 4 KiB at random from the NVMe
 * drive, one by one, and print "reads COUNT NANOSECONDS", the time of one on average.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 16384, COUNT = 3000 };

static void load_modules(void)
{
	struct dirent **names;
	int count = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[512];

		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		syscall(SYS_finit_module, open(path, O_RDONLY), "", 0);
	}
}

static double nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void reads(int fd)
{
	char *data = aligned_alloc(PAGE, PAGE);
	double begin = nanoseconds();

	for (int i = 0; i < COUNT; i++)
		if (pread(fd, data, PAGE, (off_t)(rand() % PAGES) * PAGE) != PAGE)
			return;
	printf("\nreads %d %.1f\n", COUNT, (nanoseconds() - begin) / COUNT);
}

int main(void)
{
	int fd = -1;

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	dup2(open("/dev/ttyS0", O_RDWR), 1);
	load_modules();
	for (int i = 0; i < 300 && fd < 0; i++) {
		usleep(100000);
		fd = open("/dev/nvme0n1", O_RDONLY | O_DIRECT);
	}
	reads(fd);
	fflush(stdout);
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 0;
}
