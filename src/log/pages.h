/* SPDX-License-Identifier: MIT */
/*
 * pages: bringing the pages of a mapped file into memory before somebody waits for them.
 */
#ifndef PSAD_LOG_PAGES_H
#define PSAD_LOG_PAGES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { PAGE = 4096 };

/*
 * The kernel brings n bytes from the page at `at` on, to be read or to be written too. 0 or a
 * negative errno; -EINVAL: it is too old for that. Thread: any.
 */
static inline int pages_populate(char *at, size_t n, bool writes)
{
	return madvise(at, n, writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0 ? 0 : -errno;
}

/*
 * Looks at each page: that brings it, or SIGBUS where it can't be had, whose handler (fault.h)
 * marks the segment. Thread: any.
 */
static inline void pages_touch(const char *at, size_t n)
{
	for (size_t i = 0; i < n; i += PAGE)
		(void)*(const volatile char *)(at + i);
}

#endif
