/* SPDX-License-Identifier: MIT */
/*
 * Sockets on their way to a worker: none is lost, none comes twice, and what belongs to one arrives
 * with it.
 */
#include "net/handoff.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 1023, ITEMS = 200000 };

static struct handoff_item item_of(int fd)
{
	struct handoff_item item = {.fd = fd, .is_unix = fd % 3 == 0};
	item.peer.bytes[0] = 4;
	memcpy(item.peer.bytes + 1, &fd, sizeof fd);
	if (fd % 5 == 0)
		snprintf(item.refusal, sizeof item.refusal, "ERR too-many %d\n", fd);
	return item;
}

static bool is_item(const struct handoff_item *item, int fd)
{
	struct handoff_item expected = item_of(fd);
	return item->fd == fd && item->is_unix == expected.is_unix &&
	       memcmp(&item->peer, &expected.peer, sizeof item->peer) == 0 &&
	       strcmp(item->refusal, expected.refusal) == 0;
}

static void what_is_put_is_taken_in_its_order_round_and_round(void **state)
{
	(void)state;
	struct handoff *handoff = handoff_new();
	struct handoff_item item;
	int put = 0, taken = 0;

	assert_non_null(handoff);
	for (int round = 0; round < 3000; round++) {
		for (int i = 0; i < round % 7; i++) {
			item = item_of(put++);
			assert_true(handoff_put(handoff, &item));
			memset(&item, 0, sizeof item); /* it was copied */
		}
		assert_int_equal(handoff_size(handoff), put - taken);
		for (int i = 0; i < round % 5 || (round % 100 == 0 && taken < put); i++) {
			if (!handoff_take(handoff, &item))
				break;
			assert_true(is_item(&item, taken++));
		}
	}
	handoff_free(handoff);
}

static void an_empty_one_gives_nothing(void **state)
{
	(void)state;
	struct handoff *handoff = handoff_new();
	struct handoff_item item = item_of(1);

	assert_non_null(handoff);
	assert_false(handoff_take(handoff, &item));
	assert_int_equal(handoff_size(handoff), 0);
	assert_true(handoff_put(handoff, &item));
	assert_true(handoff_take(handoff, &item));
	assert_false(handoff_take(handoff, &item));
	handoff_free(handoff);
	handoff_free(NULL);
}

static void a_full_one_refuses_and_keeps_what_it_has(void **state)
{
	(void)state;
	struct handoff *handoff = handoff_new();
	struct handoff_item item;

	assert_non_null(handoff);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < SLOTS; i++) {
			item = item_of(i);
			assert_true(handoff_put(handoff, &item));
		}
		item = item_of(SLOTS);
		assert_false(handoff_put(handoff, &item));
		assert_int_equal(handoff_size(handoff), SLOTS);
		assert_true(handoff_take(handoff, &item) && is_item(&item, 0));
		item = item_of(SLOTS);
		assert_true(handoff_put(handoff, &item));
		assert_false(handoff_put(handoff, &item));
		for (int i = 1; i <= SLOTS; i++)
			assert_true(handoff_take(handoff, &item) && is_item(&item, i));
		assert_false(handoff_take(handoff, &item));
	}
	handoff_free(handoff);
}

static void *put_all(void *context)
{
	for (int i = 0; i < ITEMS;) {
		struct handoff_item item = item_of(i);
		if (handoff_put(context, &item))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void every_socket_of_another_thread_arrives_whole(void **state)
{
	(void)state;
	struct handoff *handoff = handoff_new();
	struct handoff_item item;
	pthread_t thread;

	assert_non_null(handoff);
	assert_int_equal(pthread_create(&thread, NULL, put_all, handoff), 0);
	for (int i = 0; i < ITEMS;) {
		if (handoff_take(handoff, &item))
			assert_true(is_item(&item, i++));
		else
			sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(handoff_take(handoff, &item));
	handoff_free(handoff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_taken_in_its_order_round_and_round),
		cmocka_unit_test(an_empty_one_gives_nothing),
		cmocka_unit_test(a_full_one_refuses_and_keeps_what_it_has),
		cmocka_unit_test(every_socket_of_another_thread_arrives_whole),
	};
	return cmocka_run_group_tests_name("handoff", tests, NULL, NULL);
}
