/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fuzz SEED CALLS: random calls on every file that a supervisor hands out, with structures that are
 * nearly right, pointers that are not, and numbers that somebody else has closed.
 */
#include "steps.h"
#include <sys/eventfd.h>
#include <sys/uio.h>

enum { FILES = 24, PAGES = 4 };
static int files[FILES];
static char *memory; /* PAGES pages: two good ones, one that cannot be written, one not there */
static uint64_t state;

static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? state % below : state;
}

static uint64_t number(void)
{
	switch (any(6)) {
	case 0: return any(16);
	case 1: return any(0);
	case 2: return -1;
	case 3: return any(256) << 12;
	case 4: return (any(10) << 40) + any(8192);
	default: return (uintptr_t)memory + any(PAGES * 4096);
	}
}

static int file(void)
{
	return any(20) ? files[any(FILES)] : (int)any(0);
}

static void keep(int fd)
{
	int *slot = &files[any(FILES)];

	if (fd < 0)
		return;
	if (*slot >= 0 && *slot != fd)
		close(*slot);
	*slot = fd;
}

static void *pointer(void)
{
	/* Words that look like an argsz, flags, an fd, an address. */
	uint64_t *at = (uint64_t *)(memory + any(1000) * 8);

	if (any(8) == 0)
		return (void *)number();
	for (int i = 0; i < 6; i++) {
		uint32_t low = any(3) ? any(48) : (uint32_t)number(), high = any(3) ? any(16) : (uint32_t)file();
		at[i] = any(3) ? (uint64_t)high << 32 | low : number();
	}
	return at;
}

static void some_ioctl(void)
{
	static const unsigned long requests[] = {
		KVM_CREATE_VM, KVM_CREATE_DEVICE, KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR,
		KVM_HAS_DEVICE_ATTR, KVM_CHECK_EXTENSION, KVM_CREATE_VCPU, KVM_GET_API_VERSION,
	};
	unsigned long request;

	switch (any(8)) {
	case 0: request = _IO(0xAE, any(256)) | any(4) << 30 | any(64) << 16; break;
	case 1: case 2: request = requests[any(8)]; break;
	default: request = _IO(';', 100 + any(24));
	}
	if (request == VFIO_GROUP_GET_DEVICE_FD && any(2)) {
		strcpy(memory, any(2) ? "0000:00:10.0" : "0000:00:13.0");
		keep(ioctl(file(), request, memory));
	} else if (request == KVM_SET_DEVICE_ATTR || request == KVM_HAS_DEVICE_ATTR) {
		attribute(file(), request, any(4), file());
	} else {
		int result = ioctl(file(), request, any(3) ? pointer() : (void *)number());
		if (request == KVM_CREATE_VM)
			keep(result);
		if (request == KVM_CREATE_DEVICE && !result)
			keep(create_device(file()));
	}
}

static void some_open(void)
{
	static const char *const paths[] = {
		"/dev/vfio/vfio", "/dev/vfio/1", "/dev/vfio/2", "/dev/vfio/3", "/dev/vfio/4",
		"/dev/vfio/5", "/dev/kvm", "/dev/vfio/../vfio/1", "/dev/null", "/dev/vfio/99",
		"/proc/self/fd/5", "",
	};

	keep(openat(any(4) ? AT_FDCWD : file(), any(9) ? paths[any(12)] : (char *)number(),
		    any(5) ? O_RDWR : (int)any(1 << 12) & ~(O_CREAT | O_TRUNC)));
}

static void some_transfer(void)
{
	struct iovec two[2] = { { pointer(), any(64) }, { (void *)number(), any(1 << 20) } };
	uint64_t offset = (any(9) << 40) + any(5000);

	switch (any(4)) {
	case 0: pread(file(), (void *)number(), any(4) ? any(32) : any(0), offset); break;
	case 1: pwrite(file(), pointer(), any(4) ? any(32) : any(1 << 22), offset); break;
	case 2: preadv(file(), two, any(3), offset); break;
	default: pwritev(file(), two, any(3), offset);
	}
}

static void some_mapping(void)
{
	uint64_t offset = any(4) ? any(8) << 40 : any(8) << 12;
	size_t size = any(4) ? 4096 : any(1 << 21);
	void *p = mmap(NULL, size, any(4), any(3) ? MAP_SHARED : MAP_PRIVATE, file(), offset);

	if (p != MAP_FAILED && any(4))
		munmap(p, size);
}

/* A bus master with the fuzzer's own pages, and, if it is an NVMe controller, with queues there. */
static void start(int container, int device)
{
	static const struct { int at, width; uint64_t value; } writes[] = {
		{ 0x24, 4, 15 << 16 | 15 }, { 0x28, 8, 0x10000 }, { 0x30, 8, 0x11000 }, { 0x14, 4, 0x460001 },
	};
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .flags = 3,
		.vaddr = (uintptr_t)memory, .iova = 0x10000, .size = 2 * 4096 };

	ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
	pwrite(device, "\x06\x04", 2, (7ull << 40) + 4);
	for (size_t i = 0; i < sizeof(writes) / sizeof(*writes); i++)
		pwrite(device, &writes[i].value, writes[i].width, writes[i].at);
	for (int i = 0; i < 200; i++) { /* and commands for it */
		uint64_t *entry = (uint64_t *)(memory + i % 16 * 64);
		uint32_t tail = i % 16;

		entry[0] = (any(2) ? 2 * any(4) : any(16)) | (uint64_t)!any(8) << 8 | any(9) << 16 | any(3) << 32;
		entry[3] = entry[4] = 0x10000 + any(4 * 4096) / 4 * 4;
		for (int n = 5; n < 8; n++)
			entry[n] = any(4) | any(4) << 16 | any(8) << 32;
		if (any(3))
			continue;
		pwrite(device, &tail, 4, any(8) ? 0x1000 : 0x1000 + 4 * any(6));
		pwrite(device, &tail, 4, 0x1004); /* what came is read */
	}
}

/* What chance alone would hardly find: a group with all that can hang on it. */
static void set_up(void)
{
	static const char *const groups[] = { "/dev/vfio/1", "/dev/vfio/2", "/dev/vfio/4" };
	static const char *const devices[] = { "0000:00:10.0", "0000:00:11.0", "0000:00:13.0" };
	int n = any(3), kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int container = open("/dev/vfio/vfio", O_RDWR), group = open(groups[n], O_RDWR);

	ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
	ioctl(container, VFIO_SET_IOMMU, any(2) ? VFIO_TYPE1_IOMMU : VFIO_TYPE1v2_IOMMU);
	keep(create_device(vm));
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, devices[n]);
	if (device >= 0 && any(2))
		start(container, device);
	keep(device);
	keep(kvm);
	keep(vm);
	keep(container);
	keep(group);
}

int main(int argc, char **argv)
{
	int calls = atoi(argv[2]);

	(void)argc;
	state = atoi(argv[1]) * 0x9E3779B97F4A7C15ull + 1;
	memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(memory + 2 * 4096, 4096, PROT_READ);
	mprotect(memory + 3 * 4096, 4096, PROT_NONE);
	for (int i = 0; i < FILES; i++)
		files[i] = -1;
	keep(eventfd(0, 0));
	while (calls--) {
		if (calls % 100 == 0)
			set_up();
		switch (any(12)) {
		case 0: case 1: some_open(); break;
		case 2: keep(dup(file())); break;
		case 3: some_transfer(); break;
		case 4: some_mapping(); break;
		case 5:
			if (any(40) == 0 && !fork()) {
				some_ioctl();
				_exit(0);
			}
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			break;
		default: some_ioctl();
		}
	}
	puts("done: 0");
	return 0;
}
