// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading: the class, the minor numbers, and the drivers of cards. */
#include <linux/debugfs.h>
#include <linux/module.h>
#include "speckv_drv.h"

#define SPECKV_MINORS	64

struct class *speckv_class;
struct dentry *speckv_debugfs;
unsigned int speckv_timeout_ms = 5000;
module_param_named(timeout_ms, speckv_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "Time for a card to answer a descriptor of the kernel");

static dev_t speckv_first;
static DEFINE_IDA(speckv_minors);

int speckv_minor_get(dev_t *devt)
{
	int minor = ida_alloc_max(&speckv_minors, SPECKV_MINORS - 1, GFP_KERNEL);

	if (minor < 0)
		return minor;
	*devt = MKDEV(MAJOR(speckv_first), MINOR(speckv_first) + minor);
	return minor;
}

void speckv_minor_put(dev_t devt)
{
	ida_free(&speckv_minors, MINOR(devt) - MINOR(speckv_first));
}

static int __init speckv_init(void)
{
	int error = alloc_chrdev_region(&speckv_first, 0, SPECKV_MINORS, "speckv");

	if (error)
		return error;
	speckv_class = speckv_class_create("speckv");
	if (IS_ERR(speckv_class)) {
		error = PTR_ERR(speckv_class);
		goto no_class;
	}
	speckv_debugfs = debugfs_create_dir("speckv", NULL);
	error = speckv_pci_init();
	if (error)
		goto no_pci;
	error = speckv_emulate_init();
	if (error)
		goto no_emulation;
	return 0;

no_emulation:
	speckv_pci_exit();
no_pci:
	debugfs_remove(speckv_debugfs);
	class_destroy(speckv_class);
no_class:
	unregister_chrdev_region(speckv_first, SPECKV_MINORS);
	return error;
}

static void __exit speckv_exit(void)
{
	speckv_emulate_exit();
	speckv_pci_exit();
	debugfs_remove(speckv_debugfs);
	class_destroy(speckv_class);
	unregister_chrdev_region(speckv_first, SPECKV_MINORS);
	ida_destroy(&speckv_minors);
}

module_init(speckv_init);
module_exit(speckv_exit);
SPECKV_IMPORT_NS(DMA_BUF);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("cxlspeckv: a card that holds KV caches, or a software stand-in for it");
