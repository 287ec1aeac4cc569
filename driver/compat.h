/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between the kernels from 6.1 on that the driver meets. */
#ifndef SPECKV_COMPAT_H
#define SPECKV_COMPAT_H

#include <linux/device.h>
#include <linux/crc32.h>
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/version.h>
#ifdef SPECKV_HAS_IO_URING_CMD_H
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define speckv_class_create(name)	class_create(THIS_MODULE, name)
#define speckv_sqe_command(cmd)		((cmd)->cmd)
#else
#define speckv_class_create(name)	class_create(name)
#define speckv_sqe_command(cmd)		((const void *)(cmd)->sqe->cmd)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define SPECKV_DEVNODE_CONST
#else
#define SPECKV_DEVNODE_CONST		const
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define speckv_eventfd_signal(eventfd)	((void)eventfd_signal(eventfd, 1))
#else
#define speckv_eventfd_signal(eventfd)	eventfd_signal(eventfd)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void speckv_vm_flags_mod(struct vm_area_struct *vma,
				       unsigned long set, unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#else
#define speckv_vm_flags_mod		vm_flags_mod
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define speckv_pin_user_pages(start, count, flags, pages) \
	pin_user_pages(start, count, flags, pages, NULL)
#else
#define speckv_pin_user_pages		pin_user_pages
#endif

/* Before 6.2 a dma-buf took its own lock, and these names were the ones without the caller's. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define speckv_dma_buf_vmap		dma_buf_vmap
#define speckv_dma_buf_vunmap		dma_buf_vunmap
#define speckv_dma_buf_map		dma_buf_map_attachment
#define speckv_dma_buf_unmap		dma_buf_unmap_attachment
#else
#define speckv_dma_buf_vmap		dma_buf_vmap_unlocked
#define speckv_dma_buf_vunmap		dma_buf_vunmap_unlocked
#define speckv_dma_buf_map		dma_buf_map_attachment_unlocked
#define speckv_dma_buf_unmap		dma_buf_unmap_attachment_unlocked
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define SPECKV_IMPORT_NS(ns)		MODULE_IMPORT_NS(ns)
#else
#define SPECKV_IMPORT_NS(ns)		MODULE_IMPORT_NS(#ns)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#define speckv_uring_done(cmd, res, flags) \
	io_uring_cmd_done(cmd, res, 0, flags)
#else
#define speckv_uring_done		io_uring_cmd_done
#endif

/* SPECKV_TASK_WORK(name, cmd, flags) { body }: runs in the submitter's task. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#define SPECKV_TASK_WORK(fn, cmd, flags) \
static void fn(struct io_uring_cmd *cmd, unsigned int flags)
#else
#define SPECKV_TASK_WORK(fn, cmd, flags)				\
static void fn##_body(struct io_uring_cmd *cmd, unsigned int flags);	\
static void fn(struct io_tw_req request, io_tw_token_t token)		\
{									\
	fn##_body(io_uring_cmd_from_tw(request),			\
		  IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);			\
}									\
static void fn##_body(struct io_uring_cmd *cmd, unsigned int flags)
#endif

/* Rings that go away cancel commands that were marked. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define SPECKV_URING_CANCEL		0U
#define speckv_uring_cancelable(cmd, flags)
#else
#define SPECKV_URING_CANCEL		IO_URING_F_CANCEL
#define speckv_uring_cancelable		io_uring_cmd_mark_cancelable
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
#define SPECKV_REMOVE_RESULT		int
#define SPECKV_REMOVE_DONE			0
#else
#define SPECKV_REMOVE_RESULT		void
#define SPECKV_REMOVE_DONE
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define speckv_crc32c(crc, bytes, size)	__crc32c_le(crc, bytes, size)
#else
#define speckv_crc32c(crc, bytes, size)	crc32c(crc, bytes, size)
#endif

#endif /* SPECKV_COMPAT_H */
