/* SPDX-License-Identifier: GPL-2.0-only */
/* A program that may not be looked into. */
#include "steps.h"
#include <sys/prctl.h>

int main(void)
{
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	step("open", open("/dev/vfio/1", O_RDWR));
	step("map", mmap(NULL, 4096, PROT_READ, MAP_SHARED, memfd_create("file", 0), 0) == MAP_FAILED);
	return 0;
}
