/* SPDX-License-Identifier: GPL-2.0-only */
/* state BDF: what changes configuration space and BARs: power, interrupts, reset, closing. */
#include "show.h"

static const char *address;
static int device;
static off_t config;

static unsigned int get(int offset, int width)
{
	uint32_t value = 0;

	if (pread(device, &value, width, config + offset) != width)
		printf("read %d at %#x: %s\n", width, offset, strerrorname_np(errno));
	return value;
}

static void set(int offset, uint32_t value, int width)
{
	if (pwrite(device, &value, width, config + offset) != width)
		printf("write %d at %#x: %s\n", width, offset, strerrorname_np(errno));
}

static int find(int wanted)
{
	for (int at = get(PCI_CAPABILITY_LIST, 1); at; at = get(at + 1, 1))
		if ((int)get(at, 1) == wanted)
			return at;
	return 0;
}

static void registers(const char *when)
{
	int msi = find(PCI_CAP_ID_MSI), msix = find(PCI_CAP_ID_MSIX), pm = find(PCI_CAP_ID_PM);
	int express = find(PCI_CAP_ID_EXP);
	uint32_t bar = 0;
	ssize_t size = pread(device, &bar, 4, region(device, 0).offset);

	printf("%s: command %04x status %04x line %02x cache %02x bar0 %08x raw %02x %02x", when,
	       get(PCI_COMMAND, 2), get(PCI_STATUS, 2), get(PCI_INTERRUPT_LINE, 1),
	       get(PCI_CACHE_LINE_SIZE, 1), get(PCI_BASE_ADDRESS_0, 4), get(0x60, 1), get(0x9f, 1));
	if (msi)
		printf(" msi %04x %08x", get(msi + 2, 2), get(msi + 4, 4));
	if (msix)
		printf(" msix %04x", get(msix + 2, 2));
	if (pm)
		printf(" pm %04x", get(pm + PCI_PM_CTRL, 2));
	if (express)
		printf(" devctl %04x", get(express + PCI_EXP_DEVCTL, 2));
	printf(" read %s\n", size == 4 ? "works" : strerrorname_np(errno));
}

static void write_all(void)
{
	int msi = find(PCI_CAP_ID_MSI), express = find(PCI_CAP_ID_EXP);

	set(0x60, 0x5a, 1);
	set(0x9f, 0xa5, 1);
	set(PCI_INTERRUPT_LINE, 0x77, 1);
	set(PCI_CACHE_LINE_SIZE, 0x10, 1);
	set(PCI_COMMAND, get(PCI_COMMAND, 2) | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 2);
	set(PCI_BASE_ADDRESS_0, ~0u, 4);
	if (msi)
		set(msi + PCI_MSI_ADDRESS_LO, 0xfee00000, 4);
	if (express)
		set(express + PCI_EXP_DEVCTL, 0x2010, 2);
}

static long irqs(const char *name, unsigned int index, unsigned int count, int *fds)
{
	struct { struct vfio_irq_set set; int fds[8]; } irq = {
		.set = { .argsz = sizeof(irq), .index = index, .count = count,
			 .flags = VFIO_IRQ_SET_ACTION_TRIGGER | (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE) },
	};

	memcpy(irq.fds, fds, 4 * count);
	return show(ioctl(device, VFIO_DEVICE_SET_IRQS, &irq), "%s", name);
}

static void power(void)
{
	int pm = find(PCI_CAP_ID_PM);
	struct vfio_device_info info = { .argsz = sizeof(info) };
	uint32_t word = 0;

	if (!pm)
		return;
	for (int state = 0; state < 4; state++) {
		char name[8];

		set(pm + PCI_PM_CTRL, state, 2);
		snprintf(name, sizeof(name), "D%d", state);
		registers(name);
		show(pwrite(device, &word, 4, region(device, 0).offset + 0x5800), "write a BAR");
		show_ok(ioctl(device, VFIO_DEVICE_GET_INFO, &info), "info");
	}
	show(ioctl(device, VFIO_DEVICE_RESET), "reset in D3");
	registers("after it");
	set(pm + PCI_PM_CTRL, 0, 2);
	registers("D0");
	set(pm + PCI_PM_CTRL, 0x8103, 2);
	registers("D3 and PME");
	set(pm + PCI_PM_CTRL, 0x1e00, 2);
	registers("D0 and data select");
}

static void interrupts(void)
{
	int fds[] = { eventfd(0, 0), eventfd(0, 0), eventfd(0, 0) };
	int msi = find(PCI_CAP_ID_MSI), msix = find(PCI_CAP_ID_MSIX);

	for (unsigned int index = 0; index < 3; index++) {
		irqs("enable", index, 1, fds);
		registers("with interrupts");
		set(PCI_COMMAND, get(PCI_COMMAND, 2) ^ PCI_COMMAND_INTX_DISABLE, 2);
		if (msi)
			set(msi + PCI_MSI_FLAGS, get(msi + PCI_MSI_FLAGS, 2) ^ 0x71, 2);
		if (msix)
			set(msix + PCI_MSIX_FLAGS, get(msix + PCI_MSIX_FLAGS, 2) ^ 0xc000, 2);
		registers("written");
		if (msi)
			set(msi + PCI_MSI_FLAGS, get(msi + PCI_MSI_FLAGS, 2) ^ 0x71, 2);
		set(PCI_COMMAND, get(PCI_COMMAND, 2) ^ PCI_COMMAND_INTX_DISABLE, 2);
		irqs("disable", index, 0, fds);
		registers("without");
	}
	irqs("enable MSI", VFIO_PCI_MSI_IRQ_INDEX, 1, fds);
	show(ioctl(device, VFIO_DEVICE_RESET), "reset with MSI");
	registers("after it");
	irqs("disable MSI", VFIO_PCI_MSI_IRQ_INDEX, 0, fds);
}

static void twice(void)
{
	struct vfio_region_info bar = region(device, 0);
	int second = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), first = device;
	char *one, *two;

	show_ok(second, "the same device again");
	set(PCI_INTERRUPT_LINE, 0x33, 1);
	device = second;
	registers("through the second");
	one = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, first, bar.offset);
	two = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, second, bar.offset);
	show_ok(one == MAP_FAILED || two == MAP_FAILED ? -1 : 0, "map both");
	if (find(PCI_CAP_ID_EXP)) {	/* the network card: VET keeps what is written */
		*(volatile uint32_t *)(one + 0x38) = 0x9100;
		printf("written to one, read from the other: %x\n", *(volatile uint32_t *)(two + 0x38));
	}
	show_ok(close(first), "close the first");
	registers("still there");
	show_ok(close(second), "close the second");
	show_ok(ioctl(group, VFIO_GROUP_UNSET_CONTAINER), "UNSET_CONTAINER while a BAR is mapped");
	munmap(one, 4096);
	munmap(two, 4096);
	show_ok(ioctl(group, VFIO_GROUP_UNSET_CONTAINER), "UNSET_CONTAINER");
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	address = argv[1];
	device = open_device(address);
	config = config_at(device);
	registers("opened");
	write_all();
	registers("written");
	show(ioctl(device, VFIO_DEVICE_RESET), "reset");
	registers("after it");
	write_all();
	close(device);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	registers("opened again");
	power();
	interrupts();
	twice();
	return 0;
}
