/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * nvme /dev/vfio/N BDF: random reads of 4 KiB from an NVMe drive, by a driver in user space.
 *
 * For each line "OP BATCHES" on standard input one line "NANOSECONDS": the time of one, as the median of
 * batches of 16. OP is `one` (a read, its completion looked for and acknowledged), `eight` (eight at
 * one doorbell, time of one), or `write` (of a register that nothing comes of).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, ENTRIES = 64, BLOCKS = 131072, IOVA = 0x100000 };
enum { BATCH = 16, MOST_BATCHES = 1000 };
enum { INTMC = 0x10, CC = 0x14, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };

struct command { uint8_t opcode, flags; uint16_t id; uint32_t nsid; uint64_t unused[2], prp[2]; uint32_t dw[6]; };
struct completion { uint32_t result, reserved; uint16_t head, sq, id, status; };
struct queue { int number, tail, head, phase; volatile struct command *sq; volatile struct completion *cq; };

static int device;
static off_t bar;
static char *memory;

static void need(const char *what, int good)
{
	if (!good) {
		perror(what);
		exit(2);
	}
}

static void put(uint64_t at, uint64_t value, int width)
{
	need("a register", pwrite(device, &value, width, bar + at) == width);
}

static void set_up(const char *path, const char *name)
{
	int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .flags = 3, .iova = IOVA, .size = 64 * PAGE };
	struct vfio_region_info info = { .argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = 6;

	need(path, !ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	need("an IOMMU", !ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map.vaddr = (uintptr_t)memory;
	need("DMA", !ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	need(name, device >= 0 && !ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
	need("bus mastering", pwrite(device, &command, 2, info.offset + 4) == 2);
	info.index = 0;
	need("its registers", !ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
	bar = info.offset;
}

static uint64_t iova(volatile void *p)
{
	return IOVA + ((char *)p - memory);
}

static void submit(struct queue *q, struct command c)
{
	c.id = q->tail;
	memcpy((void *)&q->sq[q->tail], &c, sizeof(c));
	q->tail = (q->tail + 1) % ENTRIES;
}

/* Ring, and take `count` completions, which are there when the doorbell returns. */
static void finish(struct queue *q, int count)
{
	put(0x1000 + 8 * q->number, q->tail, 4);
	while (count--) {
		volatile struct completion *done = q->cq + q->head;

		need("a completion", (done->status & 1) == q->phase && !(done->status >> 1));
		q->head = (q->head + 1) % ENTRIES;
		q->phase ^= !q->head;
	}
	put(0x1004 + 8 * q->number, q->head, 4);
}

static struct queue queue(int number)
{
	return (struct queue){ number, 0, 0, 1, (void *)(memory + number * 2 * PAGE), (void *)(memory + (number * 2 + 1) * PAGE) };
}

static void start(struct queue *admin, struct queue *io)
{
	put(CC, 0, 4);
	put(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1), 4);
	put(ASQ, iova(admin->sq), 8);
	put(ACQ, iova(admin->cq), 8);
	put(CC, 0x460001, 4);
	submit(admin, (struct command){ .opcode = 5, .prp = { iova(io->cq) }, .dw = { (ENTRIES - 1) << 16 | 1, 1 } });
	finish(admin, 1);
	submit(admin, (struct command){ .opcode = 1, .prp = { iova(io->sq) }, .dw = { (ENTRIES - 1) << 16 | 1, 1 << 16 | 1 } });
	finish(admin, 1);
}

static void reads(struct queue *q, int count)
{
	for (int i = 0; i < count; i++)
		submit(q, (struct command){ .opcode = 2, .nsid = 1, .prp = { iova(memory + (8 + i) * PAGE) },
					    .dw = { rand() % (BLOCKS / 8) * 8, 0, 7 } });
	finish(q, count);
}

static double nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

static double batch(const char *name, struct queue *q)
{
	int each = !strcmp(name, "eight") ? 8 : 1;
	double begin = nanoseconds();

	for (int i = 0; i < BATCH; i += each)
		if (!strcmp(name, "write"))
			put(INTMC, 0, 4);
		else
			reads(q, each);
	return (nanoseconds() - begin) / BATCH;
}

int main(int argc, char **argv)
{
	double times[MOST_BATCHES];
	struct queue admin, io;
	char name[16];
	int batches;

	need("usage: nvme /dev/vfio/N BDF", argc == 3);
	set_up(argv[1], argv[2]);
	admin = queue(0);
	io = queue(1);
	start(&admin, &io);
	while (scanf("%15s %d", name, &batches) == 2) {
		need("too many batches", batches > 0 && batches <= MOST_BATCHES);
		for (int i = 0; i < batches; i++)
			times[i] = batch(name, &io);
		qsort(times, batches, sizeof(*times), by_value);
		printf("%.1f\n", times[batches / 2]);
		fflush(stdout);
	}
	return 0;
}
