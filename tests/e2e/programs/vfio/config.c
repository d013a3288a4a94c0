/* SPDX-License-Identifier: GPL-2.0-only */
/* config BDF: every byte of configuration space, and what of it can be written, in every width. */
#include "show.h"

static int device;
static off_t at;

static uint32_t get(int offset, int width)
{
	uint32_t value = 0;

	if (pread(device, &value, width, at + offset) != width)
		printf("read %d at %#x: %s\n", width, offset, strerrorname_np(errno));
	return value;
}

static void set(int offset, uint32_t value, int width)
{
	if (pwrite(device, &value, width, at + offset) != width)
		printf("write %d at %#x: %s\n", width, offset, strerrorname_np(errno));
}

static int memory;		/* bytes before this one that hold whatever is written */

static void end_memory(int offset)
{
	if (memory)
		printf("%03x-%03x: memory\n", offset - memory, offset - 1);
	memory = 0;
}

/* Print what all ones and all zeros leave behind, where that is not what was there. */
static void probe(int offset, int width)
{
	uint32_t before = get(offset, width), ones, zeros, after;

	set(offset, ~0u, width);
	ones = get(offset, width);
	set(offset, 0, width);
	zeros = get(offset, width);
	set(offset, before, width);
	after = get(offset, width);
	if (!before && ones == (width == 4 ? ~0u : (1u << 8 * width) - 1) && !zeros && !after) {
		memory += width;
		return;
	}
	end_memory(offset);
	if (ones != before || zeros != before || after != before)
		printf("%03x/%d: %0*x, ones %0*x, zeros %0*x, back %0*x\n", offset, width, 2 * width,
		       before, 2 * width, ones, 2 * width, zeros, 2 * width, after);
}

static void dump(int size)
{
	unsigned char line[16], blank[16] = { 0 };

	for (int offset = 0; offset < size; offset += 16) {
		char name[16];

		if (pread(device, line, 16, at + offset) != 16 || !memcmp(line, blank, 16))
			continue;
		snprintf(name, sizeof(name), "%03x", offset);
		show_bytes(name, line, 16);
	}
}

int main(int argc, char **argv)
{
	struct vfio_region_info info;
	unsigned char bytes[64];

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	info = region(device, VFIO_PCI_CONFIG_REGION_INDEX);
	at = info.offset;
	show(info.size, "size");
	dump(info.size);
	for (int width = 4; width; width /= 2) {
		for (int offset = 0; offset < (int)info.size; offset += width)
			probe(offset, width);
		end_memory(info.size);
	}
	dump(info.size);

	printf("pieces\n");
	set(PCI_BASE_ADDRESS_0, ~0u, 4);
	for (int offset = 0; offset < 12; offset++)
		for (int size = 1; size < 10; size += 2) {
			memset(bytes, 0xee, sizeof(bytes));
			show(pread(device, bytes, size, at + 0x0c + offset), "%d at %d", size, offset);
			show_bytes("bytes", bytes, size + 1);
		}
	show(pwrite(device, "\1\2\3\4\5\6\7\10\11\12\13\14\15", 13, at + PCI_CACHE_LINE_SIZE), "write 13");
	show(pread(device, bytes, 20, at + 8), "read 20");
	show_bytes("bytes", bytes, 20);
	printf("the end\n");
	for (int size = 0; size < 6; size++)
		for (int before = 5; before >= -1; before--)
			show(pread(device, bytes, size, at + info.size - before), "read %d, %d before", size, before);
	show(pwrite(device, bytes, 4, at + info.size - 3), "write 4, 3 before the end");
	show(pread(device, bytes, info.size + 1, at), "more than all");
	show(pread(device, nowhere, 4, at), "to nowhere");
	show(pwrite(device, nowhere, 4, at), "from nowhere");
	return 0;
}
