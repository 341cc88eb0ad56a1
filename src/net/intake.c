/* SPDX-License-Identifier: MIT */
#include "net/intake.h"

#include <string.h>

#include "base/diag.h"
#include "net/session.h"

enum { INPUT_FREE = 4 << 10 }; /* of unfinished commands: not counted in input_memory */

/* Reserves `n` more bytes for unfinished commands. False: the connection is refused them. */
static bool account(struct conn *conn, size_t n)
{
	static struct diag_limit limit;
	struct hub *hub = conn->worker->hub;
	size_t size = buf_size(&conn->input) + n;
	size_t wanted = size > INPUT_FREE ? size - INPUT_FREE : 0;

	if (wanted <= conn->reserved)
		return true;
	size_t more = wanted - conn->reserved;
	uint64_t all = atomic64_add(&hub->input_memory, more) + more;
	if (all > limit_get(&hub->limits.input_memory)) {
		atomic64_add(&hub->input_memory, -(uint64_t)more);
		diag_limited(&limit, DIAG_WARNING, "limits.input_memory is used up: closing %s",
		             peer_describe(conn->fd).text);
		conn_error(conn, ERROR_TOO_MANY,
		           "limits.input_memory is used up; the connection closes");
		conn_close_after_answers(conn);
		return false;
	}
	conn->reserved = wanted;
	return true;
}

static void give_back(struct conn *conn)
{
	if (conn->reserved > 0)
		atomic64_add(&conn->worker->hub->input_memory, -(uint64_t)conn->reserved);
	conn->reserved = 0;
}

/* Drops what has been executed, and gives back the memory that it took. */
static void consume(struct conn *conn, size_t n)
{
	if (n > 0)
		buf_consume(&conn->input, n);
	if (buf_size(&conn->input) == 0)
		give_back(conn);
}

void intake_drop(struct conn *conn)
{
	buf_clear(&conn->input);
	give_back(conn);
}

static bool store(struct conn *conn, const char *bytes, size_t n)
{
	size_t have = buf_size(&conn->input);
	/* A body is given its whole length at once; a line grows as it comes. */
	size_t room = conn->need > have + n ? conn->need - have : n;

	if (n == 0)
		return true;
	if (!account(conn, room))
		return false;
	if ((room > n && buf_reserve(&conn->input, room) != 0) ||
	    buf_append(&conn->input, bytes, n) != 0) {
		conn->is_lost = true;
		return false;
	}
	return true;
}

void intake_execute(struct conn *conn)
{
	size_t size = buf_size(&conn->input);
	if (size > 0)
		consume(conn, session_execute(conn, buf_begin(&conn->input), size));
}

/* How many of the n new bytes belong to the unfinished command in conn->input. */
static size_t bytes_wanted(const struct conn *conn, const char *bytes, size_t n)
{
	size_t have = buf_size(&conn->input);
	if (conn->need > have + 1)
		return conn->need - have < n ? conn->need - have : n;
	const char *end = memchr(bytes, '\n', n);
	return end == NULL ? n : (size_t)(end - bytes) + 1;
}

void intake_take(struct conn *conn, const char *bytes, size_t n)
{
	while (n > 0 && conn->state == CONN_OPEN && !conn->is_lost && !conn->is_deaf) {
		if (buf_size(&conn->input) == 0) {
			size_t taken = session_execute(conn, bytes, n);
			bytes += taken;
			n -= taken;
			if (n == 0 || conn->is_deaf || conn->state != CONN_OPEN)
				return;
			(void)store(conn, bytes, n);
			return;
		}
		size_t wanted = conn->stall != STALL_NONE ? n : bytes_wanted(conn, bytes, n);
		if (!store(conn, bytes, wanted))
			return;
		bytes += wanted;
		n -= wanted;
		if (conn->stall == STALL_NONE)
			intake_execute(conn);
	}
}

char *intake_place(struct conn *conn, size_t *n)
{
	size_t have = buf_size(&conn->input);

	*n = conn->worker->scratch_size;
	if (conn->state != CONN_OPEN || !conn->parser.in_body || conn->need <= have + 1 ||
	    conn->is_deaf)
		return conn->worker->scratch;
	if (!account(conn, conn->need - have))
		return NULL;
	if (buf_reserve(&conn->input, conn->need - have) != 0) {
		conn->is_lost = true;
		return NULL;
	}
	*n = conn->need - have;
	return buf_end(&conn->input);
}
