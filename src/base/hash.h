/* SPDX-License-Identifier: MIT */
/*
 * hash: keyed 64-bit hashes of bytes. The one home of xxhash, inlined, because most of what is
 * hashed is shorter than the call is long. Equal on every machine, so that what is stored can be
 * checked elsewhere. Thread: any.
 */
#ifndef PSAD_BASE_HASH_H
#define PSAD_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The hash of the n bytes at `at` under this key. */
static inline uint64_t hash64(const void *at, size_t n, uint64_t key)
{
	return XXH3_64bits_withSeed(at, n, key);
}

#endif
