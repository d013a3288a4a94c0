// SPDX-License-Identifier: GPL-2.0-only
// The first process of a guest that runs programs: it loads what is in /modules, in the order of
// their names, runs what is in /tests one after the other, and says "verdict NAME STATUS" of each
// on the console. Status is the exit status, or 128 and the signal's number.

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		perror(path);
	if (fd >= 0)
		close(fd);
}

static void run(const char *path)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		execl(path, path, NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	printf("\nverdict %s %d\n", strrchr(path, '/') + 1, status);
	fflush(stdout);
}

static void each(const char *directory, void (*act)(const char *))
{
	struct dirent **entries;
	int count = scandir(directory, &entries, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[512];

		if (entries[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
		act(path);
	}
}

int main(void)
{
	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/tmp", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	int console = open("/dev/console", O_RDWR);

	for (int fd = 0; fd < 3; fd++)
		dup2(console, fd);
	each("/modules", load);
	each("/tests", run);
	printf("\nverdicts are all here\n");
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}
