// SPDX-License-Identifier: GPL-2.0-only
/* Cards on PCI: how they come and go, sleep, are reset by others, fail and vanish. */
#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pm_runtime.h>
#include "pci.h"

#define SPECKV_ERROR_VECTOR	(SPECKV_PCI_VECTORS - 1)
#define SPECKV_SLEEP_AFTER_MS	1000
#define SPECKV_RECOVERY		24	/* so many times timeout_ms: two minutes */

/* ---- Cards that do not answer ---- */

static void speckv_pci_lose(struct work_struct *work)
{
	struct speckv_pci *pci = container_of(work, struct speckv_pci, lost);

	speckv_card_lose(pci->card);
}

void speckv_pci_give_up(struct speckv_pci *pci, const char *what)
{
	if (test_and_set_bit(SPECKV_PCI_BROKEN, &pci->state))
		return;
	dev_err(&pci->pdev->dev, "%s: no answer; the card is given up\n", what);
	pci_clear_master(pci->pdev);
	schedule_work(&pci->lost);
}

static unsigned long speckv_pci_health_period(void)
{
	return msecs_to_jiffies(clamp(READ_ONCE(speckv_timeout_ms) / 2, 50U, 1000U));
}

/* Before 6.17 nobody tells a driver that the recovery of its bus has failed. */
static bool speckv_pci_recovers(struct speckv_pci *pci)
{
	unsigned long most = SPECKV_RECOVERY * msecs_to_jiffies(READ_ONCE(speckv_timeout_ms));

	return test_bit(SPECKV_PCI_FROZEN, &pci->state) &&
	       time_before(jiffies, READ_ONCE(pci->frozen_at) + most);
}

/* A card that was pulled out raises no interrupt: somebody has to look. */
static void speckv_pci_look(struct work_struct *work)
{
	struct speckv_pci *pci = container_of(to_delayed_work(work), struct speckv_pci, health);
	bool there = true;

	/* While it is reset it may read as anything. */
	if (down_read_trylock(&pci->card->renewal)) {
		there = pci->card->handed_over || speckv_pci_recovers(pci) ||
			speckv_pci_read(pci, SPECKV_CSR_ID) == SPECKV_CONTRACT_ID;
		up_read(&pci->card->renewal);
	}
	if (there)
		schedule_delayed_work(&pci->health, speckv_pci_health_period());
	else
		speckv_pci_give_up(pci, "looking for it");
}

static irqreturn_t speckv_pci_error_interrupt(int irq, void *data)
{
	struct speckv_pci *pci = data;

	guard(mutex)(&pci->card->lock);
	if (!READ_ONCE(pci->card->gone) && !pci->card->handed_over)
		speckv_pci_find_errors(pci);
	return IRQ_HANDLED;
}

/* ---- Coming ---- */

/* What a card says of itself is not believed beyond what the driver can do. */
static int speckv_pci_caps(struct speckv_pci *pci, struct speckv_caps *caps)
{
	u32 limits = speckv_pci_read(pci, SPECKV_CSR_LIMITS);
	u32 version = speckv_pci_read(pci, SPECKV_CSR_VERSION);
	u32 depth_log2 = FIELD_GET(SPECKV_CSR_LIMITS_DEPTH_LOG2, limits);

	if (speckv_pci_read(pci, SPECKV_CSR_ID) != SPECKV_CONTRACT_ID ||
	    FIELD_GET(SPECKV_CSR_VERSION_MAJOR, version) != SPECKV_CONTRACT_MAJOR) {
		dev_err(&pci->pdev->dev, "contract version %#x is not known\n", version);
		return -ENODEV;
	}
	*caps = (struct speckv_caps){
		.features = speckv_pci_read64(pci, SPECKV_CSR_FEATURES) &
			    ~(u64)SPECKV_FEATURE_NEED_KICK,
		.codecs = speckv_pci_read64(pci, SPECKV_CSR_CODECS),
		.memory = min_t(u64, speckv_pci_read64(pci, SPECKV_CSR_MEMORY_BYTES),
				pci_resource_len(pci->pdev, SPECKV_PCI_MEMORY_BAR)) & PAGE_MASK,
		.opcodes = speckv_pci_read(pci, SPECKV_CSR_OPCODES),
		.max_depth = BIT(min(depth_log2, (u32)SPECKV_MAX_DEPTH_LOG2_MAX)),
		.max_queues = min_t(u32, FIELD_GET(SPECKV_CSR_LIMITS_QUEUES, limits),
				    SPECKV_MAX_QUEUES),
		.max_tenants = min_t(u32, FIELD_GET(SPECKV_CSR_LIMITS_TENANTS, limits),
				     SPECKV_MAX_TENANTS),
		.max_regions = min_t(u32, speckv_pci_read(pci, SPECKV_CSR_REGIONS),
				     SPECKV_MAX_REGIONS),
		.max_length = speckv_pci_read(pci, SPECKV_CSR_MAX_LENGTH),
		.block_tokens = BIT(FIELD_GET(SPECKV_CSR_BLOCK_SHIFT_SHIFT,
					      speckv_pci_read(pci, SPECKV_CSR_BLOCK_SHIFT))),
	};
	if (depth_log2 < SPECKV_MAX_DEPTH_LOG2_MIN || !caps->max_queues || !caps->max_tenants ||
	    caps->max_regions < 2 || !caps->max_length || !caps->memory) {
		dev_err(&pci->pdev->dev, "the card's limits make no sense\n");
		return -ENODEV;
	}
	return 0;
}

static int speckv_pci_map_bars(struct speckv_pci *pci)
{
	struct pci_dev *pdev = pci->pdev;
	resource_size_t memory = pci_resource_len(pdev, SPECKV_PCI_MEMORY_BAR);

	if (pci_resource_len(pdev, 0) < SPECKV_BAR0_BYTES || !memory) {
		dev_err(&pdev->dev, "a BAR is missing or too small\n");
		return -ENODEV;
	}
	pci->regs = devm_ioremap(&pdev->dev, pci_resource_start(pdev, 0), SPECKV_BAR0_BYTES);
	pci->memory = devm_ioremap_wc(&pdev->dev,
				      pci_resource_start(pdev, SPECKV_PCI_MEMORY_BAR), memory);
	return pci->regs && pci->memory ? 0 : -ENOMEM;
}

static void speckv_pci_free_interrupts(struct speckv_pci *pci, u32 queues, bool errors)
{
	if (errors)
		pci_free_irq(pci->pdev, SPECKV_ERROR_VECTOR, pci);
	while (queues--)
		pci_free_irq(pci->pdev, queues, &pci->vectors[queues]);
	pci_free_irq_vectors(pci->pdev);
}

static int speckv_pci_request_interrupts(struct speckv_pci *pci)
{
	u32 i;
	int error = pci_alloc_irq_vectors(pci->pdev, SPECKV_PCI_VECTORS, SPECKV_PCI_VECTORS,
					  PCI_IRQ_MSIX);

	if (error < 0) {
		dev_err(&pci->pdev->dev, "no %u interrupts to be had\n", SPECKV_PCI_VECTORS);
		return error;
	}
	for (i = 0; i < SPECKV_MAX_QUEUES; i++) {
		error = pci_request_irq(pci->pdev, i, speckv_pci_queue_interrupt, NULL,
					&pci->vectors[i], "speckv%u-queue%u",
					MINOR(pci->card->dev.devt), i);
		if (error)
			goto failed;
	}
	error = pci_request_irq(pci->pdev, SPECKV_ERROR_VECTOR, NULL, speckv_pci_error_interrupt,
				pci, "speckv%u-error", MINOR(pci->card->dev.devt));
	if (!error)
		return 0;
failed:
	speckv_pci_free_interrupts(pci, i, false);
	return error;
}

static struct speckv_pci *speckv_pci_create(struct pci_dev *pdev)
{
	struct speckv_pci *pci = devm_kzalloc(&pdev->dev, sizeof(*pci), GFP_KERNEL);
	u32 i;

	if (!pci)
		return NULL;
	pci->pdev = pdev;
	pci->weights = SPECKV_CSR_WEIGHTS_RESET;
	pci->thresholds = SPECKV_CSR_THRESHOLDS_RESET;
	mutex_init(&pci->lock);
	INIT_DELAYED_WORK(&pci->health, speckv_pci_look);
	INIT_WORK(&pci->lost, speckv_pci_lose);
	for (i = 0; i < SPECKV_MAX_QUEUES; i++)
		spin_lock_init(&pci->vectors[i].lock);
	pci_set_drvdata(pdev, pci);
	return pci;
}

/* The function is enabled and its BARs are ours: from registers to /dev/speckvN. */
static int speckv_pci_start(struct speckv_pci *pci)
{
	struct speckv_caps caps;
	int error = speckv_pci_map_bars(pci);

	if (!error)
		error = speckv_pci_caps(pci, &caps);
	if (!error)
		error = dma_set_mask_and_coherent(&pci->pdev->dev, DMA_BIT_MASK(64));
	if (error)
		return error;
	/* An IOMMU makes one piece of a region, whatever its size. */
	dma_set_max_seg_size(&pci->pdev->dev, UINT_MAX);
	pci->card = speckv_card_create(&pci->pdev->dev, &speckv_pci_engine, &caps, pci);
	if (IS_ERR(pci->card))
		return PTR_ERR(pci->card);
	pci_set_master(pci->pdev);
	error = speckv_pci_renew(pci);
	if (error)
		goto no_card;
	error = speckv_pci_request_interrupts(pci);
	if (error)
		goto no_card;
	pci_save_state(pci->pdev);
	error = speckv_card_add(pci->card);
	if (!error)
		return 0;
	speckv_pci_free_interrupts(pci, SPECKV_MAX_QUEUES, true);
no_card:
	pci_clear_master(pci->pdev);
	cancel_work_sync(&pci->lost);
	put_device(&pci->card->dev);
	return error;
}

static int speckv_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct speckv_pci *pci = speckv_pci_create(pdev);
	int error;

	if (!pci)
		return -ENOMEM;
	error = pci_enable_device_mem(pdev);
	if (error)
		return error;
	error = pci_request_mem_regions(pdev, "speckv");
	if (error)
		goto no_regions;
	error = speckv_pci_start(pci);
	if (error)
		goto no_start;
	schedule_delayed_work(&pci->health, speckv_pci_health_period());
	pm_runtime_set_autosuspend_delay(&pdev->dev, SPECKV_SLEEP_AFTER_MS);
	pm_runtime_use_autosuspend(&pdev->dev);
	pm_runtime_put_autosuspend(&pdev->dev);
	return 0;

no_start:
	pci_release_mem_regions(pdev);
no_regions:
	pci_disable_device(pdev);
	return error;
}

static void speckv_pci_remove(struct pci_dev *pdev)
{
	struct speckv_pci *pci = pci_get_drvdata(pdev);
	struct speckv_card *card = pci->card;

	pm_runtime_dont_use_autosuspend(&pdev->dev);
	pm_runtime_get_noresume(&pdev->dev);
	cancel_delayed_work_sync(&pci->health);
	speckv_card_remove(card);
	speckv_pci_write(pci, SPECKV_CSR_CONTROL, 0);
	speckv_pci_free_interrupts(pci, SPECKV_MAX_QUEUES, true);
	cancel_work_sync(&pci->lost);
	pci_clear_master(pdev);
	put_device(&card->dev);
	pci_release_mem_regions(pdev);
	pci_disable_device(pdev);
}

/* ---- Sleep ---- */

/* It forgets its memory and tables: a card that somebody has open stays awake. */
static int speckv_pci_suspend(struct device *dev)
{
	struct speckv_pci *pci = dev_get_drvdata(dev);

	/* No lock: whoever opens it waits for us. No program runs when the system goes to sleep. */
	if (!list_empty_careful(&pci->card->contexts))
		return -EBUSY;
	cancel_delayed_work_sync(&pci->health);
	speckv_pci_write(pci, SPECKV_CSR_CONTROL, 0);
	return 0;
}

static int speckv_pci_resume(struct device *dev)
{
	struct speckv_pci *pci = dev_get_drvdata(dev);
	int error = speckv_pci_renew(pci);

	pci_save_state(pci->pdev);	/* for slot_reset: restoring has used it up */
	if (error) {
		speckv_pci_give_up(pci, "waking up");
		return 0;	/* and whoever opens it is told */
	}
	speckv_pci_tuned(pci);
	schedule_delayed_work(&pci->health, speckv_pci_health_period());
	return 0;
}

static const struct dev_pm_ops speckv_pci_pm = {
	SYSTEM_SLEEP_PM_OPS(speckv_pci_suspend, speckv_pci_resume)
	RUNTIME_PM_OPS(speckv_pci_suspend, speckv_pci_resume, NULL)
};

/* ---- Resets and errors that others handle ---- */

static void speckv_pci_reset_prepare(struct pci_dev *pdev)
{
	struct speckv_pci *pci = pci_get_drvdata(pdev);

	speckv_card_hand_over(pci->card);
}

static void speckv_pci_reset_done(struct pci_dev *pdev)
{
	struct speckv_pci *pci = pci_get_drvdata(pdev);
	int error;

	pci_save_state(pdev);		/* as above */
	error = speckv_card_take_back(pci->card);
	if (error)
		speckv_pci_give_up(pci, "reset of the function");
}

static pci_ers_result_t speckv_pci_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct speckv_pci *pci = pci_get_drvdata(pdev);

	if (state == pci_channel_io_normal)
		return PCI_ERS_RESULT_CAN_RECOVER;
	if (state == pci_channel_io_perm_failure) {
		speckv_pci_give_up(pci, "an error of the bus that stays");
		return PCI_ERS_RESULT_DISCONNECT;
	}
	WRITE_ONCE(pci->frozen_at, jiffies);
	set_bit(SPECKV_PCI_FROZEN, &pci->state);
	speckv_card_halt(pci->card);
	speckv_card_go_on(pci->card);
	return PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t speckv_pci_slot_reset(struct pci_dev *pdev)
{
	struct speckv_pci *pci = pci_get_drvdata(pdev);
	int error;

	pci_restore_state(pdev);
	pci_save_state(pdev);
	speckv_card_halt(pci->card);
	clear_bit(SPECKV_PCI_FROZEN, &pci->state);
	error = speckv_card_renew(pci->card);
	speckv_card_go_on(pci->card);
	if (!error)
		return PCI_ERS_RESULT_RECOVERED;
	speckv_pci_give_up(pci, "recovery of the bus");
	return PCI_ERS_RESULT_DISCONNECT;
}

static const struct pci_error_handlers speckv_pci_errors = {
	.error_detected = speckv_pci_error_detected,
	.slot_reset = speckv_pci_slot_reset,
	.reset_prepare = speckv_pci_reset_prepare,
	.reset_done = speckv_pci_reset_done,
};

static const struct pci_device_id speckv_pci_ids[] = {
	{ PCI_DEVICE(SPECKV_PCI_VENDOR, SPECKV_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, speckv_pci_ids);

static struct pci_driver speckv_pci_driver = {
	.name = "speckv",
	.id_table = speckv_pci_ids,
	.probe = speckv_pci_probe,
	.remove = speckv_pci_remove,
	.err_handler = &speckv_pci_errors,
	.driver = { .pm = pm_ptr(&speckv_pci_pm) },
};

int speckv_pci_init(void)
{
	return pci_register_driver(&speckv_pci_driver);
}

void speckv_pci_exit(void)
{
	pci_unregister_driver(&speckv_pci_driver);
}
