/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /init of a guest that has our devices: it loads /modules, in the order of their names, drives the
 * devices, and says what it found on its console, "name: value" a line between two marks.
 *
 * The first boot writes to the NVMe drive and reboots; the second finds what was written.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

enum { PAGE = 4096, DATA = 4 << 20 };

static void say(const char *name, const char *value)
{
	printf("%s: %s\n", name, value);
}

static void number(const char *name, long long value)
{
	printf("%s: %lld\n", name, value);
}

static void load_modules(void)
{
	struct dirent **names;
	int count = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[512];
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY);
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			say(names[i]->d_name, strerror(errno));
		close(fd);
	}
}

static int wait_for(const char *path, int flags)
{
	for (int i = 0; i < 300; i++) {
		int fd = open(path, flags);

		if (fd >= 0)
			return fd;
		usleep(100000);
	}
	return -1;
}

static void put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		say(path, strerror(errno));
	close(fd);
}

/* How often an interrupt whose line has `what` was heard. */
static long interrupts(const char *what)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[1024];
	long sum = 0;

	while (fgets(line, sizeof(line), file))
		if (strstr(line, what) && strchr(line, ':'))
			sum += strtol(strchr(line, ':') + 1, NULL, 10);
	fclose(file);
	return sum;
}

/* Messages of the kernel as grave as an error. */
static void errors(void)
{
	static char log[1 << 20];
	int size = klogctl(3, log, sizeof(log) - 1), found = 0;
	char *rest = log, *line;

	log[size > 0 ? size : 0] = 0;
	while ((line = strsep(&rest, "\n"))) {
		int level = line[0] == '<' ? atoi(line + 1) & 7 : 7;

		if (level <= 3 || (level <= 4 && (strstr(line, "nvme") || strstr(line, "vfio")))) {
			printf("error: %s\n", line);
			found++;
		}
	}
	number("errors", found);
}

static unsigned char pattern(size_t at) { return at * 31 + (at >> 12); }

/* The first boot writes: whether this is it. */
static int nvme(void)
{
	int fd = wait_for("/dev/nvme0n1", O_RDWR | O_DIRECT), first, wrong = 0;
	unsigned char *data, *back;
	uint64_t size = 0;

	if (fd < 0) {
		say("nvme", "it does not come");
		return 0;
	}
	ioctl(fd, BLKGETSIZE64, &size);
	number("size", size);
	data = aligned_alloc(PAGE, DATA);
	back = aligned_alloc(PAGE, DATA);
	for (size_t i = 0; i < DATA; i++)
		data[i] = pattern(i);
	if (pread(fd, back, PAGE, 0) != PAGE)
		say("read", strerror(errno));
	first = memcmp(data, back, PAGE) != 0;
	say("boot", first ? "first" : "second");
	if (first) {
		if (pwrite(fd, data, DATA, 0) != DATA || fsync(fd))
			say("write", strerror(errno));
		if (ioctl(fd, BLKDISCARD, (uint64_t[]){ 8 << 20, 1 << 20 }))
			say("discard", strerror(errno));
	}
	memset(back, 0, DATA);
	if (pread(fd, back, DATA, 0) != DATA)
		say("read", strerror(errno));
	for (size_t i = 0; i < DATA; i++)
		wrong += data[i] != back[i];
	number("wrong bytes", wrong);
	say("beyond the end", pread(fd, back, PAGE, size) == 0 ? "nothing" : "something");
	number("nvme interrupts", interrupts("nvme0q1") > 10);
	say("interrupts are", interrupts("PCI-MSI") ? "messages" : "not messages");
	close(fd);
	return first;
}

/* Where a page of ours is in the guest's memory. */
static uint64_t physical(void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8);
	close(fd);
	return (entry & ((1ull << 55) - 1)) * PAGE;
}

#define EDU "/sys/bus/pci/devices/%s/"

static const char *of_edu(const char *file)
{
	static char path[512], address[64];
	struct dirent *entry;
	DIR *all;

	if (!address[0]) {
		all = opendir("/sys/bus/pci/devices");
		while ((entry = readdir(all))) {
			char id[16] = "";
			int fd;

			snprintf(path, sizeof(path), EDU "device", entry->d_name);
			fd = open(path, O_RDONLY);
			if (fd >= 0 && read(fd, id, 6) == 6 && !strcmp(id, "0x11e8"))
				strcpy(address, entry->d_name);
			close(fd);
		}
		closedir(all);
	}
	snprintf(path, sizeof(path), EDU "%s", address, file);
	return path;
}

/* Wait for the interrupt that uio hears; -1 for none within a second. */
static int hear(int uio)
{
	int count = -1;

	fcntl(uio, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 100 && read(uio, &count, 4) != 4; i++)
		usleep(10000);
	return count;
}

static void edu(void)
{
	volatile uint32_t *registers;
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint16_t command;
	int fd, uio, config;

	put_text("/sys/bus/pci/drivers/uio_pci_generic/new_id", "1234 11e8");
	uio = wait_for("/dev/uio0", O_RDWR);
	config = open(of_edu("config"), O_RDWR);
	fd = open(of_edu("resource0"), O_RDWR | O_SYNC);
	registers = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (uio < 0 || registers == MAP_FAILED) {
		say("edu", "it does not come");
		return;
	}
	pread(config, &command, 2, 4);
	command = (command | 6) & ~0x400; /* memory, bus master, and INTx not disabled */
	pwrite(config, &command, 2, 4);
	printf("identification: %x\n", registers[0]);
	registers[1] = 0x12345678;
	printf("liveness: %x\n", registers[1]);
	registers[2] = 6;
	number("factorial", registers[2]);

	strcpy(page, "through the device");
	registers[0x80 / 4] = physical(page);
	registers[0x88 / 4] = 0x40000;
	registers[0x90 / 4] = 32;
	registers[0x98 / 4] = 1;
	while (registers[0x98 / 4] & 1)
		;
	registers[0x80 / 4] = 0x40000;
	registers[0x88 / 4] = physical(page) + 1024;
	registers[0x98 / 4] = 1 | 2 | 4;
	while (registers[0x98 / 4] & 1)
		;
	say("copied", page + 1024);
	number("heard", hear(uio));
	printf("interrupt status: %x\n", registers[0x24 / 4]);
	registers[0x64 / 4] = 0x100;
	pread(config, &command, 2, 4);
	command &= ~0x400; /* uio has disabled it */
	pwrite(config, &command, 2, 4);
	registers[0x60 / 4] = 1;
	number("heard again", hear(uio));
	registers[0x64 / 4] = 1;
}

int main(void)
{
	int first, console;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	console = open("/dev/ttyS0", O_RDWR);
	dup2(console, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("\n== begin\n");
	load_modules();
	edu();
	first = nvme();
	errors();
	printf("== end\n");
	tcdrain(1);
	sync();
	reboot(first ? RB_AUTOBOOT : RB_POWER_OFF);
	return 0;
}
