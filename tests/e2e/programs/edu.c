/* SPDX-License-Identifier: GPL-2.0-only */
/* edu BDF GROUP: a driver of the educational device, and what becomes of memory under its DMA. */
#include "opened.h"

enum { SOURCE = 0x80, DESTINATION = 0x88, COUNT = 0x90, COMMAND = 0x98, BUFFER = 0x40000 };
enum { IOVA = 0x100000, RW = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE };

static void copy(struct opened *o, uint64_t source, uint64_t destination, uint64_t n, int command)
{
	put(o, SOURCE, source, 8);
	put(o, DESTINATION, destination, 8);
	put(o, COUNT, n, 8);
	put(o, COMMAND, command | 1, 8);
}

static void from_memory(struct opened *o, uint64_t iova) { copy(o, iova, BUFFER, 8, 4); }
static void to_memory(struct opened *o, uint64_t iova) { copy(o, BUFFER, iova, 8, 2); }

/* Fill the device's buffer with `text`, through a page that is always there. */
static void fill(struct opened *o, char *page, const char *text)
{
	strcpy(page, text);
	from_memory(o, IOVA);
}

int main(int argc, char **argv)
{
	struct opened o = open_device(argv[2], argv[1]);
	char *page = pages(4096), *other = pages(3 * 4096), *gone = pages(4096);
	int event, status;

	(void)argc;
	printf("identification: %lx\n", get(&o, 0, 4));
	put(&o, 4, 0x12345678, 4);
	printf("liveness: %lx\n", get(&o, 4, 4));
	put(&o, 8, 10, 4);
	value("factorial", get(&o, 8, 4));
	event = hear(&o, VFIO_PCI_MSI_IRQ_INDEX);
	put(&o, 0x60, 1, 4);
	heard("interrupts", event);
	step("map a bar with registers", mmap(NULL, 4096, PROT_READ, MAP_SHARED, o.device, o.offset[0]) == MAP_FAILED ? -1 : 0);

	step("map", map(&o, page, IOVA, 4096, RW));
	step("map for reading", map(&o, other, 0x200000, 4096, VFIO_DMA_MAP_FLAG_READ));
	step("map for writing", map(&o, other + 4096, 0x201000, 4096, VFIO_DMA_MAP_FLAG_WRITE));
	fill(&o, page, "to edu");
	heard("done", event);
	to_memory(&o, IOVA + 512);
	printf("there and back: %s\n", page + 512);

	strcpy(other, "read me");
	to_memory(&o, 0x200000);
	printf("written to what is for reading: %s\n", other);
	strcpy(other + 4096 - 4, "read");
	strcpy(other + 4096, "hidden");
	fill(&o, page, "XXXXXXX");
	from_memory(&o, 0x200000 + 4096 - 4); /* the second half is for writing only */
	to_memory(&o, IOVA + 512);
	printf("read from what is for writing: %.8s\n", page + 512);
	fill(&o, page, "halfway");
	copy(&o, BUFFER, 0x201000 + 4096 - 4, 8, 2);
	printf("written up to the end: %.4s\n", other + 2 * 4096 - 4);

	/* Another process with the same device: its writes reach our memory, which was mapped. */
	fill(&o, page, "forked");
	if (fork() == 0) {
		strcpy(page, "child");
		to_memory(&o, IOVA + 512);
		from_memory(&o, IOVA);
		_exit(0);
	}
	wait(&status);
	printf("of a child: %s\n", page + 512);
	to_memory(&o, IOVA + 512);
	printf("read by a child: %s\n", page + 512);

	step("map what goes", map(&o, gone, 0x300000, 4096, RW));
	munmap(gone, 4096);
	from_memory(&o, 0x300000);
	to_memory(&o, IOVA + 512);
	printf("what is gone: %d\n", page[512]);
	to_memory(&o, 0x300000);
	heard("interrupts of all", event);

	/* Memory that is shared, and another program that ends. */
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fork() == 0) {
		step("map what is shared", map(&o, shared, 0x400000, 4096, RW));
		fill(&o, page, "shared"); /* the parent's page: its content, not ours */
		to_memory(&o, 0x400000);
		_exit(0);
	}
	wait(&status);
	printf("written by a child: %s\n", shared);
	to_memory(&o, 0x400000); /* whose memory is gone */
	value("alive", get(&o, 0, 4) == 0x010000ed);
	return 0;
}
