/* SPDX-License-Identifier: GPL-2.0-only */
/* sysfs BDF: what tools read of a device, its group, its driver and the modules. */
#include "show.h"
#include <dirent.h>

static void content(const char *path)
{
	unsigned char bytes[1024];
	int fd = open(path, O_RDONLY);
	ssize_t size = read(fd, bytes, sizeof(bytes));

	close(fd);
	if (size < 0) {
		printf(" %s\n", strerrorname_np(errno));
		return;
	}
	printf(" \"");
	for (ssize_t i = 0; i < size; i++)
		printf(bytes[i] == '\n' ? "\\n" : bytes[i] < ' ' || bytes[i] > '~' ? "\\%02x" : "%c", bytes[i]);
	printf("\"\n");
}

/* Firmware and error counters are the computer's; the rest of these are of no use to users of VFIO. */
static int of_interest(const struct dirent *entry)
{
	static const char *const others[] = { ".", "aer", "firmware_node", "wakeup", "serial_number", "dev" };

	for (unsigned int i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (!strncmp(entry->d_name, others[i], strlen(others[i])) && strcmp(entry->d_name, "device") &&
		    strcmp(entry->d_name, "devices"))
			return 0;
	return 1;
}

/* The directory's names, where its links lead, and with `contents` what its files hold. */
static void list(const char *directory, int contents)
{
	struct dirent **entries;
	int count = scandir(directory, &entries, of_interest, alphasort);

	printf("%s: %s\n", directory, count < 0 ? strerrorname_np(errno) : "");
	for (int i = 0; i < count; i++) {
		char path[512], link[256];
		struct stat status;
		ssize_t length;

		snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
		lstat(path, &status);
		printf("%s", entries[i]->d_name);
		length = readlink(path, link, sizeof(link) - 1);
		link[length < 0 ? 0 : length] = 0;
		if (S_ISLNK(status.st_mode))
			printf(" -> %s\n", link);
		else if (S_ISREG(status.st_mode) && contents && status.st_mode & 0044)
			content(path);
		else
			printf("%s\n", S_ISDIR(status.st_mode) ? "/" : "");
	}
}

int main(int argc, char **argv)
{
	static const char *const modules[] = { "vfio", "vfio_pci", "vfio_pci_core", "vfio_iommu_type1", "vfio_virqfd" };
	char path[256];

	if (argc < 2)
		return 2;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", argv[1]);
	list(path, 1);
	strcat(path, "/vfio-dev");
	list(path, 0);
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d", group_of(argv[1]));
	list(path, 1);
	strcat(path, "/devices");
	list(path, 0);
	snprintf(path, sizeof(path), "/sys/class/vfio/%d", group_of(argv[1]));
	list(path, 0);
	list("/sys/bus/pci/devices", 0);
	list("/sys/bus/pci/drivers/vfio-pci", 0);
	list("/sys/class/vfio", 0);
	list("/sys/class/vfio-dev", 0);
	list("/sys/class/iommu", 0);
	list("/sys/kernel/iommu_groups", 0);
	for (unsigned int i = 0; i < sizeof(modules) / sizeof(*modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/parameters", modules[i]);
		list(path, 1);
	}
	list("/dev/vfio", 0);
	return 0;
}
