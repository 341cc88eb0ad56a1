/* SPDX-License-Identifier: MIT */
/*
 * fault: what happens when a mapped file loses its bytes under us (SIGBUS): cut short by somebody,
 * or the disk can't read it.
 *
 * The handler finds the mapping by its address, puts a page of zeros there and marks the segment
 * as damaged: the one who looked goes on, sees zeros, and whoever looks at the mark takes them for
 * what they are. An address that is none of ours kills the process as it would have.
 */
#ifndef PSAD_LOG_FAULT_H
#define PSAD_LOG_FAULT_H

#include <stddef.h>
#include <stdint.h>

enum { FAULT_MAPPINGS_MAX = 4096 };

/*
 * Watches a mapping of `size` bytes, whole pages; *mark, which is to last as long, becomes 1 when
 * it has lost bytes. 0; -ENOMEM: FAULT_MAPPINGS_MAX are watched already. Thread: any.
 */
int fault_watch(char *map, size_t size, uint32_t *mark);
/* Watches it no longer: to be called before the mapping goes. Thread: any. */
void fault_forget(const char *map);

#endif
