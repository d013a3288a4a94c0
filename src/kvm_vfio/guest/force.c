// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module for guests: from here on the kernel's question whether a group's DMA is coherent gets the
 * answer that was written to the parameter `force`.
 *
 *     FD 0|1     the group or device open as FD, of the process that writes
 *     FD -1      what the kernel itself says
 *     anything   else forgets all
 *
 * One IOMMU means one answer for all groups of a machine; with this, a guest can have both. The
 * function still runs, and whoever watches its return sees the new answer if they came later.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/module.h>

#define DMA_CC_IOMMU 4

static struct {
	const void *member;		/* what the function is asked about: a file, a group */
	unsigned long answer;
} forced[64];
static unsigned int forced_count;
static bool about_group;		/* up to 5.18 it is the vfio_group, a file's private data */

static int asked(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	unsigned long *place = (void *)instance->data;

	if (about_group && regs->si != DMA_CC_IOMMU)
		return 1;
	for (*place = 0; *place < forced_count; ++*place)
		if (forced[*place].member == (const void *)regs->di)
			return 0;
	return 1;			/* its return does not matter */
}

static int answered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	unsigned long *place = (void *)instance->data;

	regs->ax = forced[*place].answer;
	return 0;
}

static struct kretprobe question = {
	.kp.symbol_name = "vfio_file_enforced_coherent",
	.entry_handler = asked,
	.handler = answered,
	.data_size = sizeof(unsigned long),
};

static struct kretprobe question_about_group = {
	.kp.symbol_name = "vfio_external_check_extension",
	.entry_handler = asked,
	.handler = answered,
	.data_size = sizeof(unsigned long),
};

static int set_force(const char *text, const struct kernel_param *parameter)
{
	const void *member;
	struct file *file;
	unsigned int i;
	int fd, answer;

	if (sscanf(text, "%d %d", &fd, &answer) != 2) {
		forced_count = 0;
		return 0;
	}
	file = fget(fd);
	if (!file)
		return -EBADF;
	member = about_group ? file->private_data : file;
	fput(file);
	for (i = 0; i < forced_count && forced[i].member != member; i++)
		;
	if (i == ARRAY_SIZE(forced))
		return -ENOSPC;
	if (answer < 0) {
		if (i < forced_count)
			forced[i] = forced[--forced_count];
		return 0;
	}
	forced[i].member = member;
	forced[i].answer = answer;
	if (i == forced_count)
		forced_count++;
	return 0;
}

static const struct kernel_param_ops force_ops = { .set = set_force };
module_param_cb(force, &force_ops, NULL, 0200);

static int __init force_init(void)
{
	if (!register_kretprobe(&question))
		return 0;
	about_group = true;
	return register_kretprobe(&question_about_group);
}

static void __exit force_exit(void)
{
	unregister_kretprobe(about_group ? &question_about_group : &question);
}

module_init(force_init);
module_exit(force_exit);
MODULE_DESCRIPTION("Answers for the kernel whether DMA is coherent");
MODULE_LICENSE("GPL");
