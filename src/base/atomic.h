/* SPDX-License-Identifier: MIT */
/*
 * atomic: shared words and the order in which they are seen. The only door to ck_pr.
 *
 * Every shared field is read and written through these; the suffix is the contract:
 *   _relaxed  the word alone, no order for anything around it
 *   _acquire  what the releasing thread did before its store is seen after this load
 *   _release  what this thread did before is seen by whoever acquires the value
 * Read-modify-writes are both. fence_full() also orders an earlier store before a later load
 * (what Dekker's pattern needs).
 *
 * ThreadSanitizer does not see ck_pr's assembly, so that in its builds the compiler's own atomics
 * stand in: same names, same contract. tsan_release() and tsan_acquire() tell it of an order that
 * it cannot see (ck_epoch's grace periods, ck_ring's slots); elsewhere they are nothing.
 *
 * Thread: any.
 */
#ifndef PSAD_BASE_ATOMIC_H
#define PSAD_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)

#include <sanitizer/tsan_interface.h>

#define ATOMIC_DEFINE(bits)                                                                        \
	static inline uint##bits##_t atomic##bits##_load_relaxed(const uint##bits##_t *word)       \
	{                                                                                          \
		return __atomic_load_n(word, __ATOMIC_RELAXED);                                    \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_load_acquire(const uint##bits##_t *word)       \
	{                                                                                          \
		return __atomic_load_n(word, __ATOMIC_ACQUIRE);                                    \
	}                                                                                          \
	static inline void atomic##bits##_store_relaxed(uint##bits##_t *word,                      \
	                                                uint##bits##_t value)                      \
	{                                                                                          \
		__atomic_store_n(word, value, __ATOMIC_RELAXED);                                   \
	}                                                                                          \
	static inline void atomic##bits##_store_release(uint##bits##_t *word,                      \
	                                                uint##bits##_t value)                      \
	{                                                                                          \
		__atomic_store_n(word, value, __ATOMIC_RELEASE);                                   \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_add(uint##bits##_t *word,                      \
	                                                uint##bits##_t delta)                      \
	{                                                                                          \
		return __atomic_fetch_add(word, delta, __ATOMIC_ACQ_REL);                          \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_exchange(uint##bits##_t *word,                 \
	                                                     uint##bits##_t value)                 \
	{                                                                                          \
		return __atomic_exchange_n(word, value, __ATOMIC_ACQ_REL);                         \
	}                                                                                          \
	static inline bool atomic##bits##_cas(uint##bits##_t *word, uint##bits##_t *expected,      \
	                                      uint##bits##_t value)                                \
	{                                                                                          \
		return __atomic_compare_exchange_n(word, expected, value, false, __ATOMIC_ACQ_REL, \
		                                   __ATOMIC_ACQUIRE);                              \
	}

#define atomic_load_pointer_acquire(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define atomic_store_pointer_release(pointer, value)                                               \
	__atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define atomic_cas_pointer(pointer, expected, value)                                               \
	__atomic_compare_exchange_n((pointer), &(__typeof__(*(pointer))){(expected)}, (value),     \
	                            false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

static inline void fence_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void tsan_release(void *address)
{
	__tsan_release(address);
}
static inline void tsan_acquire(void *address)
{
	__tsan_acquire(address);
}

#else

#include <ck_pr.h>

#define ATOMIC_DEFINE(bits)                                                                        \
	static inline uint##bits##_t atomic##bits##_load_relaxed(const uint##bits##_t *word)       \
	{                                                                                          \
		return ck_pr_load_##bits(word);                                                    \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_load_acquire(const uint##bits##_t *word)       \
	{                                                                                          \
		uint##bits##_t value = ck_pr_load_##bits(word);                                    \
		ck_pr_fence_acquire();                                                             \
		return value;                                                                      \
	}                                                                                          \
	static inline void atomic##bits##_store_relaxed(uint##bits##_t *word,                      \
	                                                uint##bits##_t value)                      \
	{                                                                                          \
		ck_pr_store_##bits(word, value);                                                   \
	}                                                                                          \
	static inline void atomic##bits##_store_release(uint##bits##_t *word,                      \
	                                                uint##bits##_t value)                      \
	{                                                                                          \
		ck_pr_fence_release();                                                             \
		ck_pr_store_##bits(word, value);                                                   \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_add(uint##bits##_t *word,                      \
	                                                uint##bits##_t delta)                      \
	{                                                                                          \
		ck_pr_fence_release();                                                             \
		uint##bits##_t value = ck_pr_faa_##bits(word, delta);                              \
		ck_pr_fence_acquire();                                                             \
		return value;                                                                      \
	}                                                                                          \
	static inline uint##bits##_t atomic##bits##_exchange(uint##bits##_t *word,                 \
	                                                     uint##bits##_t value)                 \
	{                                                                                          \
		ck_pr_fence_release();                                                             \
		uint##bits##_t before = ck_pr_fas_##bits(word, value);                             \
		ck_pr_fence_acquire();                                                             \
		return before;                                                                     \
	}                                                                                          \
	static inline bool atomic##bits##_cas(uint##bits##_t *word, uint##bits##_t *expected,      \
	                                      uint##bits##_t value)                                \
	{                                                                                          \
		ck_pr_fence_release();                                                             \
		bool done = ck_pr_cas_##bits##_value(word, *expected, value, expected);            \
		ck_pr_fence_acquire();                                                             \
		return done;                                                                       \
	}

/* The fence follows the load within one expression, so that this can be used as a value. */
#define atomic_load_pointer_acquire(pointer)                                                       \
	__extension__({                                                                            \
		__typeof__(*(pointer)) value_ = ck_pr_load_ptr(pointer);                           \
		ck_pr_fence_acquire();                                                             \
		value_;                                                                            \
	})
#define atomic_store_pointer_release(pointer, value)                                               \
	do {                                                                                       \
		ck_pr_fence_release();                                                             \
		ck_pr_store_ptr((pointer), (value));                                               \
	} while (0)
#define atomic_cas_pointer(pointer, expected, value)                                               \
	__extension__({                                                                            \
		ck_pr_fence_release();                                                             \
		bool done_ = ck_pr_cas_ptr((pointer), (expected), (value));                        \
		ck_pr_fence_acquire();                                                             \
		done_;                                                                             \
	})

static inline void fence_full(void)
{
	ck_pr_fence_memory();
}
static inline void tsan_release(void *address)
{
	(void)address;
}
static inline void tsan_acquire(void *address)
{
	(void)address;
}

#endif

/*
 * On success atomicN_cas() returns true; on failure *expected is what was there. atomicN_add()
 * and atomicN_exchange() return the value from before; adding -n (it wraps) takes n away.
 * atomic_cas_pointer() takes what is expected by value and only says whether that was there.
 */
ATOMIC_DEFINE(64)
ATOMIC_DEFINE(32)
#undef ATOMIC_DEFINE

/* A counter with one writing thread and readers anywhere: no read-modify-write is needed. */
static inline void atomic64_count(uint64_t *counter, uint64_t delta)
{
	/* Relaxed: a statistic orders nothing. */
	atomic64_store_relaxed(counter, atomic64_load_relaxed(counter) + delta);
}

/* Bytes: what one thread writes often and others read lies in lines of its own. */
enum { CACHE_LINE = 64 };

#endif
