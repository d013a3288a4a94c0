/* SPDX-License-Identifier: GPL-2.0-only */
/* bars BDF: what the BARs of an idle device hold, a register at a time. */
#include "show.h"

int main(int argc, char **argv)
{
	int device;

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	for (int index = 0; index < VFIO_PCI_ROM_REGION_INDEX; index++) {
		struct vfio_region_info bar = region(device, index);
		uint64_t most = bar.size < 0x10000 ? bar.size : 0x10000;

		int ones = 0;

		for (uint64_t at = 0; at < most; at += 4) {
			uint32_t value = 0;

			if (pread(device, &value, 4, bar.offset + at) != 4)
				return show(-1, "bar %d at %#lx", index, at);
			if (value && value != ~0u)
				printf("bar %d at %#lx: %08x\n", index, at, value);
			ones += value == ~0u;
		}
		printf("bar %d: %d times all ones\n", index, ones);
	}
	return 0;
}
