/* SPDX-License-Identifier: GPL-2.0-only */
/* nvme BDF GROUP: a driver of an NVMe controller: identify, write, read, in one page of code. */
#include "opened.h"

enum { CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, ENTRIES = 16, PAGE = 4096 };

struct command { uint8_t opcode, flags; uint16_t id; uint32_t nsid; uint64_t unused[2], prp[2]; uint32_t dw[6]; };
struct completion { uint32_t result, reserved; uint16_t head, sq, id, status; };

struct queue { int number, tail, head, phase; struct command *sq; struct completion *cq; };

static struct opened o;
static char *memory; /* mapped for the device at its own address */

static void *page(int n) { return memory + n * PAGE; }
static uint64_t iova(const void *p) { return (uintptr_t)p & 0x3fffffffffull; }

/* Run one command: its status. */
static int run(struct queue *q, struct command c)
{
	struct completion *done = q->cq + q->head;
	int status;

	c.id = q->tail + 1;
	q->sq[q->tail] = c;
	q->tail = (q->tail + 1) % ENTRIES;
	put(&o, 0x1000 + 8 * q->number, q->tail, 4);
	if ((done->status & 1) != q->phase || done->id != c.id)
		return -1;
	status = done->status >> 1;
	q->head = (q->head + 1) % ENTRIES;
	q->phase ^= !q->head;
	put(&o, 0x1004 + 8 * q->number, q->head, 4);
	return status;
}

static struct queue queue(int number, int at)
{
	return (struct queue){ .number = number, .phase = 1, .sq = page(at), .cq = page(at + 1) };
}

static struct command create(int opcode, void *at, int dw11)
{
	return (struct command){ .opcode = opcode, .prp = { iova(at) }, .dw = { (ENTRIES - 1) << 16 | 1, dw11 } };
}

static struct command identify(int cns, int nsid, void *to)
{
	return (struct command){ .opcode = 6, .nsid = nsid, .prp = { iova(to) }, .dw = { cns } };
}

static struct command move(int opcode, int block, void *data, int blocks)
{
	return (struct command){ .opcode = opcode, .nsid = 1, .prp = { iova(data), iova(data) + PAGE },
				 .dw = { block, 0, blocks - 1 } };
}

int main(int argc, char **argv)
{
	struct queue admin, io;
	int event;

	(void)argc;
	o = open_device(argv[2], argv[1]);
	memory = pages(16 * PAGE);
	step("map", map(&o, memory, iova(memory), 16 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE));
	event = hear(&o, VFIO_PCI_MSIX_IRQ_INDEX);

	admin = queue(0, 0);
	put(&o, CC, 0, 4);
	put(&o, AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1), 4);
	put(&o, ASQ, iova(admin.sq), 8);
	put(&o, ACQ, iova(admin.cq), 8);
	put(&o, CC, 0x460001, 4);
	value("ready", get(&o, CSTS, 4));

	value("identify controller", run(&admin, identify(1, 0, page(4))));
	printf("model: %.13s\n", (char *)page(4) + 24);
	value("identify namespace", run(&admin, identify(0, 1, page(4))));
	value("blocks", *(uint64_t *)page(4));
	io = queue(1, 2);
	value("create completion queue", run(&admin, create(5, io.cq, 3))); /* vector 0 */
	value("create submission queue", run(&admin, create(1, io.sq, 1 << 16 | 1)));

	for (int i = 0; i < 2 * PAGE; i++)
		((char *)page(6))[i] = i * 7;
	value("write", run(&io, move(1, 77, page(6), 16)));
	value("read", run(&io, move(2, 77, page(8), 16)));
	value("same", !memcmp(page(6), page(8), 2 * PAGE));
	value("read beyond", run(&io, move(2, 131072, page(8), 1)));
	heard("interrupts", event);
	munmap(page(8), PAGE);
	value("read into what is gone", run(&io, move(2, 77, page(8), 8)));
	put(&o, CC, 0, 4);
	value("reset", get(&o, CSTS, 4));
	return 0;
}
