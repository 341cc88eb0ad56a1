/* SPDX-License-Identifier: MIT */
/*
 * Where a listener is, what of it is ours to remove, and what is no listener at all.
 */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/psad-listener-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/socket", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static struct sockaddr_in ipv4(uint32_t host, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)};
}

#define ANY(address) ((const struct sockaddr *)(const void *)&(address))

static bool is_there(void)
{
	struct stat status;
	return lstat(path, &status) == 0;
}

static void a_tcp_listener_is_where_it_was_asked_to_be_and_named_by_what_it_got(void **state)
{
	struct sockaddr_in wanted = ipv4(INADDR_LOOPBACK, 0), other = ipv4(INADDR_LOOPBACK, 1);
	struct listener listener;
	unsigned port;
	(void)state;
	assert_int_equal(listener_open_tcp(&listener, ANY(wanted), sizeof wanted, 5), 0);
	assert_int_equal(sscanf(listener.text, "127.0.0.1:%u", &port), 1);
	assert_int_not_equal(port, 0);
	assert_true(listener_is_at(&listener, ANY(wanted)));
	assert_false(listener_is_at(&listener, ANY(other)));
	assert_false(listener_is_at_path(&listener, ""));
	assert_int_equal(listener_set_backlog(&listener, 100), 0);
	listener_close(&listener);
	other = ipv4(0xC0000201, 1); /* 192.0.2.1, which nobody has */
	assert_int_equal(listener_open_tcp(&listener, ANY(other), sizeof other, 5), -EADDRNOTAVAIL);
}

static void the_path_of_a_unix_socket_goes_with_it(void **state)
{
	struct listener listener;
	unsigned before = 0;
	struct stat status;
	(void)state;
	assert_int_equal(listener_open_unix(&listener, path, 0640, 5), 0);
	assert_true(listener_is_at_path(&listener, path));
	assert_int_equal(listener_set_mode(&listener, 0600, &before), 0);
	assert_int_equal(before, 0640);
	assert_int_equal(lstat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	struct listener second;
	assert_int_equal(listener_open_unix(&second, path, 0640, 5), -EADDRINUSE);
	listener_close(&listener);
	assert_false(is_there());
}

static void a_path_that_somebody_else_has_made_since_stays(void **state)
{
	struct listener listener;
	unsigned before;
	(void)state;
	assert_int_equal(listener_open_unix(&listener, path, 0640, 5), 0);
	assert_int_equal(unlink(path), 0);
	int fd = open(path, O_CREAT | O_WRONLY, 0644);
	close(fd);
	assert_int_equal(listener_set_mode(&listener, 0600, &before), -ENOENT);
	listener_close(&listener);
	assert_true(is_there());
	assert_int_equal(listener_open_unix(&listener, path, 0640, 5), -EADDRINUSE);
	assert_true(is_there());
	assert_int_equal(unlink(path), 0);
}

static void a_socket_handed_over_is_never_removed_and_goes_on_listening(void **state)
{
	struct listener listener;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)state;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, ANY(address), sizeof address), 0);
	assert_int_equal(listen(fd, 5), 0);
	int copy = dup(fd);
	assert_null(listener_adopt(&listener, copy, "a name"));
	assert_true(listener.is_handed_over && listener.is_unix);
	assert_string_equal(listener.name, "a name");
	assert_true(listener_is_at_path(&listener, path));
	assert_true((fcntl(copy, F_GETFL) & O_NONBLOCK) != 0);
	assert_true((fcntl(copy, F_GETFD) & FD_CLOEXEC) != 0);
	listener_close(&listener);
	assert_true(is_there());
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(client, ANY(address), sizeof address), 0);
	close(client);
	close(fd);
	assert_int_equal(unlink(path), 0);
}

static void what_does_not_listen_is_not_adopted(void **state)
{
	struct listener listener;
	int pair[2];
	(void)state;
	assert_int_equal(pipe(pair), 0);
	assert_string_equal(listener_adopt(&listener, pair[0], "x"), "is no socket");
	close(pair[0]);
	close(pair[1]);
	assert_string_equal(listener_adopt(&listener, pair[1], "x"), "is no socket");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_non_null(strstr(listener_adopt(&listener, pair[0], "x"), "does not listen"));
	close(pair[0]);
	close(pair[1]);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_non_null(strstr(listener_adopt(&listener, fd, "x"), "no stream socket"));
	close(fd);
}

/* [::] that takes IPv4 stands for 0.0.0.0 of the same port, and for nothing else of it. */
static void a_socket_for_both_families_is_at_both(void **state)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	socklen_t length = sizeof address;
	struct listener listener;
	const int no = 0, yes = 1;
	(void)state;
	for (int is_dual = 0; is_dual < 2; is_dual++) {
		int fd = socket(AF_INET6, SOCK_STREAM, 0);
		if (fd < 0)
			skip();
		address.sin6_port = 0;
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_dual ? &no : &yes, sizeof no);
		if (bind(fd, ANY(address), sizeof address) != 0)
			skip();
		assert_int_equal(listen(fd, 5), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &length), 0);
		assert_null(listener_adopt(&listener, fd, ""));
		struct sockaddr_in every = ipv4(INADDR_ANY, ntohs(address.sin6_port));
		struct sockaddr_in one = ipv4(INADDR_LOOPBACK, ntohs(address.sin6_port));
		assert_true(listener_is_at(&listener, ANY(address)));
		assert_int_equal(listener_is_at(&listener, ANY(every)), is_dual);
		assert_false(listener_is_at(&listener, ANY(one)));
		listener_close(&listener);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_tcp_listener_is_where_it_was_asked_to_be_and_named_by_what_it_got),
		cmocka_unit_test(the_path_of_a_unix_socket_goes_with_it),
		cmocka_unit_test(a_path_that_somebody_else_has_made_since_stays),
		cmocka_unit_test(a_socket_handed_over_is_never_removed_and_goes_on_listening),
		cmocka_unit_test(what_does_not_listen_is_not_adopted),
		cmocka_unit_test(a_socket_for_both_families_is_at_both),
	};
	return cmocka_run_group_tests_name("listener", tests, make_folder, remove_folder);
}
