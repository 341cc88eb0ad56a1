/* SPDX-License-Identifier: MIT */
#include "net/outlet.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/conn.h"

enum {
	/*
	 * A message larger than the latter is written in pieces of the former, as if the socket was
	 * full behind each: all that follow get one piece before any gets the next, so that it is
	 * copied from the CPU's cache and not from memory.
	 */
	PIECE_BYTES = 256 << 10,
	PIECE_BYTES_MAX = 384 << 10,
};

/*
 * The one door for socket output. Bytes written, 0 when the socket is full, negative errno. A
 * socket's own calls, because writev() first goes through all that files may need.
 */
static ssize_t write_socket(struct conn *conn, const struct iovec *iov, int count)
{
	const struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	size_t size = iov->iov_len > PIECE_BYTES_MAX ? PIECE_BYTES : iov->iov_len;

	for (;;) {
		ssize_t n = count == 1 ? send(conn->fd, iov->iov_base, size, MSG_NOSIGNAL)
		                       : sendmsg(conn->fd, &message, MSG_NOSIGNAL);
		if (n >= 0) {
			conn->has_sent = true;
			return n;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		/* No memory in the kernel is no reason to lose a peer: it is as if it was full. */
		if (errno == ENOBUFS || errno == ENOMEM)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* ---- what goes before the next message ---- */

/* The iovec of the rest of a message, where there is one; *count is raised. */
static enum flush_verdict find_rest(struct conn *conn, struct rest *rest, int *count)
{
	struct output *output = &conn->output;

	if (output->rest != NULL) {
		rest->bytes = (struct iovec){.iov_base = output->rest + output->rest_sent,
		                             .iov_len = output->rest_size - output->rest_sent};
		++*count;
	}
	if (output->rest_id == 0)
		return FLUSH_DONE;
	switch (fanout_find_rest(conn->worker->fanout, output->rest_id, output->rest_from, rest)) {
	case REST_HERE:
		break;
	case REST_COLD:
		return FLUSH_COLD;
	case REST_GONE:
		return FLUSH_CUT; /* what was begun can't be finished */
	}
	++*count;
	return FLUSH_DONE;
}

/* Of a rest in the log, of which n bytes of the write went: what is left of it is kept from here on
 * where it is small enough. */
static enum flush_verdict keep_rest(struct conn *conn, const struct rest *rest, size_t n)
{
	struct output *output = &conn->output;

	if (output->rest_id != 0 && output_keep_rest(output, (const char *)rest->bytes.iov_base + n,
	                                             rest->bytes.iov_len - n) != 0)
		return FLUSH_LOST;
	/* Behind the reading: what went, or was kept, may be anything. */
	return block_is_damaged(&rest->block) ? FLUSH_CUT : FLUSH_DONE;
}

/* Inside a section where the rest is in the log. */
static enum flush_verdict flush_once(struct conn *conn)
{
	struct output *output = &conn->output;
	const bool is_reference = output->rest_id != 0;
	size_t ready = output_ready(output);
	struct rest rest = {.bytes.iov_len = 0};
	struct iovec iov[2];
	int count = 0;
	enum flush_verdict verdict = find_rest(conn, &rest, &count);

	if (verdict != FLUSH_DONE)
		return verdict;
	iov[0] = rest.bytes;
	if (ready > 0)
		iov[count++] =
			(struct iovec){.iov_base = buf_begin(&output->answers), .iov_len = ready};
	if (count == 0)
		return FLUSH_DONE;
	ssize_t n = write_socket(conn, iov, count);
	if (n == -EFAULT && is_reference) {
		log_damage(conn->worker->hub->log, &rest.block);
		return FLUSH_CUT;
	}
	if (n < 0)
		return FLUSH_LOST;
	output_sent(output, rest.bytes.iov_len, (size_t)n);
	if (is_reference)
		verdict = keep_rest(conn, &rest, (size_t)n);
	if (verdict != FLUSH_DONE)
		return verdict;
	return (size_t)n == rest.bytes.iov_len + ready ? FLUSH_DONE : FLUSH_BLOCKED;
}

enum flush_verdict outlet_flush(struct conn *conn)
{
	struct epoch_thread *epoch = &conn->worker->epoch;
	bool is_reference = conn->output.rest_id != 0;

	if (is_reference)
		epoch_enter(epoch);
	enum flush_verdict verdict = flush_once(conn);
	if (is_reference)
		epoch_leave(epoch);
	if (verdict == FLUSH_BLOCKED)
		conn_wait_to_write(conn);
	if (verdict == FLUSH_COLD)
		conn_wait_until_warm(conn);
	return verdict;
}

/* ---- upcalls of the fan-out; see struct fanout_calls ---- */

static struct conn *conn_of(struct follower *follower)
{
	return (struct conn *)(void *)((char *)follower - offsetof(struct conn, follower));
}

/* A list of any length. As write_socket(). */
static ssize_t write_list(struct conn *conn, const struct iovec *iov, int count)
{
	size_t written = 0;

	while (count > IOV_MAX) {
		size_t size = 0;
		for (int i = 0; i < IOV_MAX; i++)
			size += iov[i].iov_len;
		ssize_t n = write_socket(conn, iov, IOV_MAX);
		if (n < 0)
			return written > 0 ? (ssize_t)written : n;
		written += (size_t)n;
		if ((size_t)n < size)
			return (ssize_t)written;
		iov += IOV_MAX;
		count -= IOV_MAX;
	}
	ssize_t n = write_socket(conn, iov, count);
	/* What is wrong is found again by the next write. */
	return n < 0 && written == 0 ? n : (ssize_t)written + (n < 0 ? 0 : n);
}

static ssize_t write_messages(struct follower *follower, const struct iovec *iov, int count,
                              size_t size)
{
	struct conn *conn = conn_of(follower);

	if (!output_is_clear(&conn->output)) {
		switch (outlet_flush(conn)) {
		case FLUSH_DONE:
			break;
		case FLUSH_BLOCKED:
		case FLUSH_COLD:
			return 0;
		case FLUSH_CUT:
			conn_note_cut(conn);
			return -ENODATA;
		case FLUSH_LOST:
			return -ECONNRESET;
		}
	}
	ssize_t n = write_list(conn, iov, count);
	if (n >= 0 && (size_t)n < size)
		conn_wait_to_write(conn);
	return n;
}

static int owe_rest(struct follower *follower, uint64_t id, uint32_t from, const char *rest,
                    uint32_t n)
{
	return output_owe(&conn_of(follower)->output, id, from, rest, n);
}

static int say_gap(struct follower *follower, uint64_t from, uint64_t to, enum gap_reason reason)
{
	char text[64];
	int n = snprintf(text, sizeof text, "GAP %llu %llu %s\n", (unsigned long long)from,
	                 (unsigned long long)to, gap_word(reason));
	struct conn *conn = conn_of(follower);
	worker_make_ready(conn->worker, conn);
	/* Before what is held: the messages behind the gap do not wait for that. */
	if (output_insert(&conn->output, text, (size_t)n) != 0)
		return -ENOMEM;
	/* A log that is all holes would fill our memory for a peer that takes nothing. */
	return output_ready(&conn->output) >= OUTPUT_ANSWERS_MAX;
}

static void note_found(struct follower *follower)
{
	struct conn *conn = conn_of(follower);
	conn->has_found = true;
	worker_make_ready(conn->worker, conn);
}

static void note_arrived(struct follower *follower)
{
	struct conn *conn = conn_of(follower);
	conn->has_arrived = true;
	worker_make_ready(conn->worker, conn);
}

static void note_lost(struct follower *follower)
{
	struct conn *conn = conn_of(follower);
	conn->is_lost = true;
	worker_make_ready(conn->worker, conn);
}

const struct fanout_calls outlet_fanout_calls = {
	.write = write_messages,
	.owe = owe_rest,
	.gap = say_gap,
	.found = note_found,
	.arrived = note_arrived,
	.lost = note_lost,
};
