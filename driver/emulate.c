// SPDX-License-Identifier: GPL-2.0-only
/* emulate=N: software cards, as platform devices, so that they are bound and unbound as others. */
#include <linux/module.h>
#include <linux/platform_device.h>
#include "soft.h"

#define SPECKV_MAX_EMULATED	8

static unsigned int emulate;
module_param(emulate, uint, 0444);
MODULE_PARM_DESC(emulate, "How many software cards there are (0 to 8)");
static unsigned int emulate_memory = 64;
module_param(emulate_memory, uint, 0444);
MODULE_PARM_DESC(emulate_memory, "MiB of memory of each software card (1 to 65536)");

static struct platform_device *speckv_emulated[SPECKV_MAX_EMULATED];

static int speckv_emulate_probe(struct platform_device *pdev)
{
	struct speckv_soft *soft;
	struct speckv_caps caps = { .memory = (u64)emulate_memory << 20 };
	struct speckv_card *card;
	int error;

	soft = speckv_soft_create(caps.memory);
	if (!soft)
		return -ENOMEM;
	speckv_soft_caps(soft, &caps);
	card = speckv_card_create(&pdev->dev, &speckv_soft_engine, &caps, soft);
	if (IS_ERR(card)) {
		speckv_soft_destroy(soft);
		return PTR_ERR(card);
	}
	soft->card = card;
	platform_set_drvdata(pdev, soft);
	error = speckv_card_add(card);
	if (error) {
		put_device(&card->dev);
		speckv_soft_destroy(soft);
		return error;
	}
	return 0;
}

static SPECKV_REMOVE_RESULT speckv_emulate_remove(struct platform_device *pdev)
{
	struct speckv_soft *soft = platform_get_drvdata(pdev);
	struct speckv_card *card = soft->card;

	speckv_card_remove(card);
	speckv_soft_destroy(soft);
	put_device(&card->dev);
	return SPECKV_REMOVE_DONE;
}

static struct platform_driver speckv_emulate_driver = {
	.probe = speckv_emulate_probe,
	.remove = speckv_emulate_remove,
	.driver = { .name = "speckv_soft" },
};

void speckv_emulate_exit(void)
{
	u32 i;

	for (i = 0; i < SPECKV_MAX_EMULATED; i++) {
		if (speckv_emulated[i])
			platform_device_unregister(speckv_emulated[i]);
		speckv_emulated[i] = NULL;
	}
	platform_driver_unregister(&speckv_emulate_driver);
}

int speckv_emulate_init(void)
{
	int error;
	u32 i;

	if (emulate > SPECKV_MAX_EMULATED || !emulate_memory || emulate_memory > 65536) {
		pr_err("speckv: emulate is 0 to %u, emulate_memory 1 to 65536\n",
		       SPECKV_MAX_EMULATED);
		return -EINVAL;
	}
	error = platform_driver_register(&speckv_emulate_driver);
	if (error)
		return error;
	for (i = 0; i < emulate; i++) {
		struct platform_device *pdev =
			platform_device_register_simple("speckv_soft", i, NULL, 0);

		if (IS_ERR(pdev)) {
			speckv_emulate_exit();
			return PTR_ERR(pdev);
		}
		speckv_emulated[i] = pdev;
	}
	return 0;
}
