/* SPDX-License-Identifier: MIT */
/*
 * How many connections an address may have, and which addresses are one.
 */
#include "net/peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct peer_key key_of(const char *text)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} address;

	memset(&address, 0, sizeof address);
	if (strchr(text, '/') != NULL) {
		address.any.sa_family = AF_UNIX;
	} else if (strchr(text, ':') != NULL) {
		address.any.sa_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
		address.in6.sin6_port = 7;
	} else {
		address.any.sa_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, text, &address.in.sin_addr), 1);
		address.in.sin_port = 7;
	}
	return peer_key_of(&address.any);
}

static void an_ipv6_address_counts_with_its_64_and_an_ipv4_address_alone(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		bool is_same;
	} rows[] = {
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8:1:2::1", "2001:db8:1:2::1", true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"10.0.0.1", "a00:1::", false}, /* the same bytes */
		{"10.0.0.1", "::1", false},
		{"127.0.0.1", "::1", false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct peer_key a = key_of(rows[i].a), b = key_of(rows[i].b);
		struct peers *peers = peers_new();
		assert_non_null(peers);
		assert_int_equal(memcmp(&a, &b, sizeof a) == 0, rows[i].is_same);
		assert_true(peers_enter(peers, &a, 1));
		assert_int_equal(peers_enter(peers, &b, 1), !rows[i].is_same);
		peers_leave(peers, &a);
		peers_free(peers);
	}
}

static void unix_sockets_are_not_counted(void **state)
{
	(void)state;
	struct peer_key key = key_of("/run/psad");
	struct peers *peers = peers_new();

	assert_non_null(peers);
	for (int i = 0; i < 10; i++)
		assert_true(peers_enter(peers, &key, 1));
	for (int i = 0; i < 20; i++)
		peers_leave(peers, &key);
	peers_free(peers);
}

static void the_limit_is_kept_and_who_leaves_makes_room(void **state)
{
	(void)state;
	struct peer_key key = key_of("10.0.0.1"), other = key_of("10.0.0.2");
	struct peers *peers = peers_new();

	assert_non_null(peers);
	for (int i = 0; i < 3; i++)
		assert_true(peers_enter(peers, &key, 3));
	assert_false(peers_enter(peers, &key, 3));
	assert_false(peers_enter(peers, &key, 2)); /* a lowered limit puts nobody out */
	assert_true(peers_enter(peers, &other, 1));
	peers_leave(peers, &key);
	assert_true(peers_enter(peers, &key, 3)); /* who was refused did not count */
	assert_false(peers_enter(peers, &key, 3));
	assert_true(peers_enter(peers, &key, 4));
	for (int i = 0; i < 4; i++)
		peers_leave(peers, &key);
	assert_true(peers_enter(peers, &key, 1));
	peers_free(peers);
}

static void without_a_limit_everybody_enters_and_is_counted_for_a_later_one(void **state)
{
	(void)state;
	struct peer_key key = key_of("10.0.0.1");
	struct peers *peers = peers_new();

	assert_non_null(peers);
	for (int i = 0; i < 1000; i++)
		assert_true(peers_enter(peers, &key, 0));
	assert_false(peers_enter(peers, &key, 1000));
	for (int i = 0; i < 1000; i++)
		peers_leave(peers, &key);
	assert_true(peers_enter(peers, &key, 1));
	peers_free(peers);
	peers_free(NULL);
}

enum { THREADS = 4, TURNS = 5000, PLACES = 2 };

struct crowd {
	struct peers *peers;
	struct peer_key key;
	pthread_mutex_t mutex;
	int inside, most;
};

static void *come_and_go(void *context)
{
	struct crowd *crowd = context;

	for (int i = 0; i < TURNS; i++) {
		if (!peers_enter(crowd->peers, &crowd->key, PLACES))
			continue;
		pthread_mutex_lock(&crowd->mutex);
		if (++crowd->inside > crowd->most)
			crowd->most = crowd->inside;
		pthread_mutex_unlock(&crowd->mutex);
		pthread_mutex_lock(&crowd->mutex);
		crowd->inside--;
		pthread_mutex_unlock(&crowd->mutex);
		peers_leave(crowd->peers, &crowd->key);
	}
	return NULL;
}

static void no_more_than_the_limit_are_in_whoever_comes_at_once(void **state)
{
	(void)state;
	struct crowd crowd = {.peers = peers_new(),
	                      .key = key_of("10.0.0.1"),
	                      .mutex = PTHREAD_MUTEX_INITIALIZER};
	pthread_t threads[THREADS];

	assert_non_null(crowd.peers);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(crowd.most >= 1 && crowd.most <= PLACES);
	assert_true(peers_enter(crowd.peers, &crowd.key, 1)); /* all have left */
	peers_free(crowd.peers);
}

/* A connection to a listener at this address; *client and *server are its ends. */
static void connect_to(struct sockaddr *address, socklen_t length, int *client, int *server)
{
	int listener = socket(address->sa_family, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, address, &length), 0);
	*client = socket(address->sa_family, SOCK_STREAM, 0);
	assert_int_equal(connect(*client, address, length), 0);
	*server = accept(listener, NULL, NULL);
	assert_true(*server >= 0);
	close(listener);
}

static void a_peer_is_described_by_what_an_operator_can_look_for(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in own;
	socklen_t length = sizeof own;
	char expected[80];
	int ends[2];
	(void)state;

	connect_to((struct sockaddr *)&in, sizeof in, &ends[0], &ends[1]);
	assert_int_equal(getsockname(ends[0], (struct sockaddr *)&own, &length), 0);
	snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(own.sin_port));
	assert_string_equal(peer_describe(ends[1]).text, expected);
	close(ends[0]);
	close(ends[1]);
	assert_string_equal(peer_describe(ends[1]).text, "a peer that has gone");

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	snprintf(expected, sizeof expected, "a Unix socket (process %d of user %u)", (int)getpid(),
	         (unsigned)getuid());
	assert_string_equal(peer_describe(ends[1]).text, expected);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ipv6_address_counts_with_its_64_and_an_ipv4_address_alone),
		cmocka_unit_test(unix_sockets_are_not_counted),
		cmocka_unit_test(the_limit_is_kept_and_who_leaves_makes_room),
		cmocka_unit_test(without_a_limit_everybody_enters_and_is_counted_for_a_later_one),
		cmocka_unit_test(a_peer_is_described_by_what_an_operator_can_look_for),
		cmocka_unit_test(no_more_than_the_limit_are_in_whoever_comes_at_once),
	};
	return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
