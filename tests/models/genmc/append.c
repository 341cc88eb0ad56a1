/* SPDX-License-Identifier: MIT */
/*
 * Two publishers that append to one segment, and a reader that raises the head and then reads below
 * it: claim [O4], copy, commit [O1], head [O7], with the orders of the code. The copies are plain
 * memory, so that a missing order is a data race.
 *
 * Stands for:
 *     src/log/segment.c segment_claim 98e2aec9
 *     src/log/segment.c segment_commit face7b47
 *     src/log/segment.h entry_is_committed 4ee7eaef
 *     src/log/log.c head_raise 14a83023
 *     src/log/log.c log_committed 396c2cf1
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

enum { ENTRIES = 2, SECRET = 64 };
#ifdef BUG_COMMIT_RELAXED
#define COMMIT memory_order_relaxed
#else
#define COMMIT memory_order_release
#endif
#ifdef BUG_COMMIT_READ_RELAXED
#define LOOK memory_order_relaxed
#else
#define LOOK memory_order_acquire
#endif
#ifdef BUG_HEAD_RAISED_RELAXED
#define RAISE memory_order_relaxed
#else
#define RAISE memory_order_acq_rel
#endif
#ifdef BUG_HEAD_READ_RELAXED
#define HEAD memory_order_relaxed
#else
#define HEAD memory_order_acquire
#endif

static atomic_int state, commits[ENTRIES], head;
static int frames[ENTRIES];

/* segment_claim() and segment_commit() */
static void *publisher(void *context)
{
	(void)context;
	int before = atomic_load_explicit(&state, memory_order_acquire); /* [O4] */
	while (!atomic_compare_exchange_strong_explicit(&state, &before, before + 1,
	                                                memory_order_acq_rel, memory_order_acquire))
		;
	assert(before < ENTRIES);
#ifdef BUG_COMMIT_BEFORE_COPY
	atomic_store_explicit(&commits[before], SECRET ^ (before + 1), COMMIT);
	frames[before] = before + 1;
#else
	frames[before] = before + 1;
	atomic_store_explicit(&commits[before], SECRET ^ (before + 1), COMMIT); /* [O1] */
#endif
	return NULL;
}

/* log_committed(): the head over what is committed. */
static void *raiser(void *context)
{
	(void)context;
	int count = atomic_load_explicit(&state, memory_order_acquire); /* [O4] */
	int next = 0;
	while (next < count &&
	       atomic_load_explicit(&commits[next], LOOK) == (SECRET ^ (next + 1))) /* [O1] */
		next++;
	int now = atomic_load_explicit(&head, memory_order_acquire); /* [O7] */
	while (now < next && !atomic_compare_exchange_strong_explicit(
				     &head, &now, next, RAISE, memory_order_relaxed)) /* [O7] */
		;
	return NULL;
}

/* A reader that takes the head as another has raised it: it looks at no commit word. */
static void *reader(void *context)
{
	(void)context;
	int upto = atomic_load_explicit(&head, HEAD); /* [O7] */
	for (int i = 0; i < upto; i++)
		assert(frames[i] == i + 1);
	return NULL;
}

int main(void)
{
	pthread_t threads[4];
	pthread_create(&threads[0], NULL, publisher, NULL);
	pthread_create(&threads[1], NULL, publisher, NULL);
	pthread_create(&threads[2], NULL, raiser, NULL);
	pthread_create(&threads[3], NULL, reader, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert(atomic_load_explicit(&state, memory_order_relaxed) == ENTRIES);
	return 0;
}
