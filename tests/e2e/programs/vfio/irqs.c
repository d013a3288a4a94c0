/* SPDX-License-Identifier: GPL-2.0-only */
/* irqs BDF: GET_IRQ_INFO and SET_IRQS in every form, and what the eventfds hear. */
#include "show.h"

static int device;
static int event[8];
static struct vfio_irq_info infos[5];

static void counts(void)
{
	printf("heard:");
	for (int i = 0; i < 8; i++) {
		uint64_t count = 0;

		if (read(event[i], &count, 8) != 8)
			count = 0;
		printf(" %d", (int)count);
	}
	printf("\n");
}

static long set_quietly(unsigned int flags, unsigned int index, unsigned int start,
		unsigned int count, const void *data, unsigned int size)
{
	struct { struct vfio_irq_set set; unsigned char data[256]; } irq = {
		.set = { .argsz = sizeof(irq.set) + size, .flags = flags, .index = index,
			 .start = start, .count = count },
	};

	memcpy(irq.set.data, data, size);
	return ioctl(device, VFIO_DEVICE_SET_IRQS, &irq);
}

static long set(const char *name, unsigned int flags, unsigned int index, unsigned int start,
		unsigned int count, const void *data, unsigned int size)
{
	return show(set_quietly(flags, index, start, count, data, size), "%s", name);
}

static long trigger_fds(const char *name, unsigned int index, unsigned int start, unsigned int count, const int *fds)
{
	return set(name, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, index, start, count, fds, 4 * count);
}

static long trigger(const char *name, unsigned int index, unsigned int start, unsigned int count)
{
	return set(name, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, index, start, count, "", 0);
}

static void info(unsigned int index, unsigned int argsz)
{
	struct { struct vfio_irq_info info; char more[16]; } irq;

	memset(&irq, 0xee, sizeof(irq));
	irq.info.argsz = argsz;
	irq.info.index = index;
	show(ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &irq), "info %u, argsz %u", index, argsz);
	show_bytes("info", &irq, 20);
	if (index < 5 && argsz >= 16)
		infos[index] = irq.info;
}

/* Every action with every kind of data and a few ranges, on an index that is not in use. */
static void all_forms(unsigned int index)
{
	static const unsigned int ranges[][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 }, { 0, 2 }, { 5, 1 }, { ~0u, 1 }, { 0, ~0u } };

	printf("index %u, ranges 0+0 0+1 1+0 1+1 0+2 5+1 -1+1 0-1\n", index);
	for (unsigned int action = 0; action < 8; action++)
		for (unsigned int data = 0; data < 8; data++) {
			printf("action %x data %x:", action, data);
			for (unsigned int i = 0; i < 8; i++) {
				unsigned char zeros[64] = { 0 };
				long result;

				if (data == 4)
					memset(zeros, 0xff, sizeof(zeros));
				result = set_quietly(action << 3 | data, index, ranges[i][0], ranges[i][1], zeros, 16);
				printf(" %s", result < 0 ? strerrorname_np(errno) : "0");
			}
			printf("\n");
		}
	set("other flags", 0x40 | 0x21, index, 0, 0, "", 0);
	counts();
}

static void argument_sizes(unsigned int index)
{
	struct vfio_irq_set irq = { .flags = 0x24, .index = index, .count = 1 };
	int none = -1;

	for (unsigned int argsz = 16; argsz < 25; argsz++) {
		irq.argsz = argsz;
		show(ioctl(device, VFIO_DEVICE_SET_IRQS, &irq), "index %u argsz %u", index, argsz);
	}
	set("an fd of 3 bytes", 0x24, index, 0, 1, &none, 3);
	set("an fd", 0x24, index, 0, 1, &none, 4);
	set("disable", 0x21, index, 0, 0, "", 0);
}

static void vectors(unsigned int index)
{
	unsigned int count = infos[index].count;
	int none[2] = { -1, -1 }, wrong[2] = { event[0], 0 }, closed[2] = { event[0], 999 }, lower[2] = { event[0], -5 };
	unsigned int last = count ? count - 1 : 0;

	printf("vectors of %u\n", index);
	trigger_fds("none in use", index, 0, 1, none);
	trigger("disable", index, 0, 0);
	trigger("disable again", index, 0, 0);
	trigger_fds("enable", index, 0, 1, event);
	trigger("trigger", index, 0, 1);
	counts();
	set("true", VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 1, "\1", 1);
	set("false", VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 1, "\0", 1);
	counts();
	trigger_fds("another", index, 0, 1, event + 1);
	trigger("trigger", index, 0, 1);
	counts();
	trigger_fds("take it away", index, 0, 1, none);
	trigger("trigger", index, 0, 1);
	counts();
	trigger_fds("all", index, 0, count, event);
	trigger("trigger all", index, 0, count);
	counts();
	trigger_fds("the last", index, last, 1, event + 7);
	trigger("trigger the last", index, last, 1);
	counts();
	trigger("trigger beyond", index, count, 1);
	trigger("trigger too many", index, last, 2);
	trigger_fds("no eventfd", index, 0, count > 1 ? 2 : 1, count > 1 ? wrong : wrong + 1);
	trigger("trigger", index, 0, count);
	counts();
	trigger_fds("closed", index, 0, count > 1 ? 2 : 1, count > 1 ? closed : closed + 1);
	trigger("trigger", index, 0, count);
	counts();
	trigger_fds("below -1", index, 0, count > 1 ? 2 : 1, count > 1 ? lower : lower + 1);
	trigger("trigger", index, 0, count);
	counts();
	trigger_fds("nothing", index, 0, 0, none);
	trigger("trigger", index, 0, count);
	counts();
	for (unsigned int other = 0; other < 3; other++) {
		trigger_fds("another index", other, 0, 1, event);
		trigger("disable another index", other, 0, 0);
	}
	trigger("disable from the last", index, last, 0);
	trigger_fds("enable the last only", index, last, 1, event + 3);
	trigger("trigger the last", index, last, 1);
	trigger("trigger the first", index, 0, 1);
	counts();
	trigger("disable", index, 0, 0);
	trigger_fds("enable with a wrong one", index, 0, count > 1 ? 2 : 1, count > 1 ? wrong : wrong + 1);
	trigger("trigger", index, 0, 1);
	trigger("disable", index, 0, 0);
	counts();
}

static void config_word(int offset, const char *name)
{
	uint16_t word = 0;

	pread(device, &word, 2, config_at(device) + offset);
	printf("%s %04x\n", name, word);
}

static void disable_intx(int on)
{
	uint16_t word = 0;

	pread(device, &word, 2, config_at(device) + PCI_COMMAND);
	word = on ? word | PCI_COMMAND_INTX_DISABLE : word & ~PCI_COMMAND_INTX_DISABLE;
	show(pwrite(device, &word, 2, config_at(device) + PCI_COMMAND), "INTx disabled %d", on);
}

static void intx(void)
{
	const unsigned int index = VFIO_PCI_INTX_IRQ_INDEX;
	const unsigned int mask = VFIO_IRQ_SET_ACTION_MASK, unmask = VFIO_IRQ_SET_ACTION_UNMASK;
	const unsigned int none = VFIO_IRQ_SET_DATA_NONE, yes = VFIO_IRQ_SET_DATA_BOOL, fd = VFIO_IRQ_SET_DATA_EVENTFD;
	int minus = -1, zero = 0;

	printf("INTx\n");
	set("mask", none | mask, index, 0, 1, "", 0);
	set("unmask", none | unmask, index, 0, 1, "", 0);
	trigger_fds("enable", index, 0, 1, event);
	set("mask", none | mask, index, 0, 1, "", 0);
	set("mask again", none | mask, index, 0, 1, "", 0);
	config_word(PCI_COMMAND, "command");
	trigger("trigger masked", index, 0, 1);
	counts();
	set("unmask", none | unmask, index, 0, 1, "", 0);
	config_word(PCI_COMMAND, "command");
	set("mask if", yes | mask, index, 0, 1, "\1", 1);
	set("unmask if not", yes | unmask, index, 0, 1, "\0", 1);
	set("unmask if", yes | unmask, index, 0, 1, "\1", 1);
	set("mask by eventfd", fd | mask, index, 0, 1, event + 2, 4);
	set("unmask by eventfd", fd | unmask, index, 0, 1, event + 2, 4);
	set("unmask by eventfd again", fd | unmask, index, 0, 1, event + 3, 4);
	set("unmask by no eventfd", fd | unmask, index, 0, 1, &zero, 4);
	set("unmask by none", fd | unmask, index, 0, 1, &minus, 4);
	set("unmask by none again", fd | unmask, index, 0, 1, &minus, 4);
	set("mask nothing", none | mask, index, 0, 0, "", 0);
	set("unmask nothing", none | unmask, index, 0, 0, "", 0);
	set("mask two", none | mask, index, 0, 2, "", 0);
	counts();
	disable_intx(1);
	trigger("trigger disabled", index, 0, 1);
	set("unmask disabled", none | unmask, index, 0, 1, "", 0);
	trigger("trigger disabled", index, 0, 1);
	counts();
	set("mask disabled", none | mask, index, 0, 1, "", 0);
	disable_intx(0);
	trigger("trigger enabled", index, 0, 1);
	counts();
	trigger("disable", index, 0, 0);
	disable_intx(1);
	trigger_fds("enable while disabled", index, 0, 1, event);
	trigger("trigger", index, 0, 1);
	counts();
	trigger("disable", index, 0, 0);
	disable_intx(0);
	for (int i = 0; i < 300; i++)
		if (set_quietly(0x24, index, 0, 1, event, 4) || set_quietly(0x21, index, 0, 0, "", 0)) {
			show(-1, "again, for the %dth time", i);
			break;
		}
}

static void single(unsigned int index)
{
	int minus = -1, lower = -7, zero = 0, closed = 999;

	printf("single %u\n", index);
	trigger("trigger", index, 0, 1);
	trigger("disable", index, 0, 0);
	trigger_fds("enable", index, 0, 1, event + 4);
	trigger("trigger", index, 0, 1);
	set("true", 0x22, index, 0, 1, "\1", 1);
	set("false", 0x22, index, 0, 1, "\0", 1);
	counts();
	trigger_fds("another", index, 0, 1, event + 5);
	trigger("trigger", index, 0, 1);
	counts();
	trigger_fds("below -1", index, 0, 1, &lower);
	trigger_fds("no eventfd", index, 0, 1, &zero);
	trigger_fds("closed", index, 0, 1, &closed);
	trigger("trigger", index, 0, 1);
	counts();
	trigger_fds("nothing", index, 0, 0, &minus);
	set("nothing", 0x22, index, 0, 0, "", 0);
	trigger_fds("none", index, 0, 1, &minus);
	trigger("trigger", index, 0, 1);
	set("true", 0x22, index, 0, 1, "\1", 1);
	trigger("disable", index, 0, 0);
	counts();
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	for (int i = 0; i < 8; i++)
		event[i] = eventfd(0, EFD_NONBLOCK);
	for (unsigned int index = 0; index < 8; index++)
		for (unsigned int argsz = 15; argsz < 18; argsz++)
			info(index, argsz);
	info(~0u, 16);
	for (unsigned int index = 0; index < 6; index++) {
		all_forms(index);
		argument_sizes(index);
	}
	vectors(VFIO_PCI_MSI_IRQ_INDEX);
	vectors(VFIO_PCI_MSIX_IRQ_INDEX);
	vectors(VFIO_PCI_INTX_IRQ_INDEX);
	intx();
	single(VFIO_PCI_ERR_IRQ_INDEX);
	single(VFIO_PCI_REQ_IRQ_INDEX);
	config_word(PCI_COMMAND, "command");
	trigger_fds("MSI", VFIO_PCI_MSI_IRQ_INDEX, 0, 1, event);
	config_word(PCI_COMMAND, "command");
	show(ioctl(device, VFIO_DEVICE_SET_IRQS, NULL), "no structure");
	return 0;
}
