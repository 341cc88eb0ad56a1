/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 256 };

static int make_capacity(struct buf *buf, size_t capacity)
{
	char *memory = realloc(buf->memory, capacity);
	if (memory == NULL)
		return -ENOMEM;
	buf->memory = memory;
	buf->capacity = (uint32_t)capacity;
	return 0;
}

int buf_reserve(struct buf *buf, size_t n)
{
	size_t size = buf_size(buf);
	assert(n < BUF_MAX && size + n < BUF_MAX);
	if (buf_room(buf) >= n)
		return 0;
	if (buf->begin > 0) {
		memmove(buf->memory, buf->memory + buf->begin, size);
		buf->begin = 0;
		buf->end = (uint32_t)size;
	}
	return buf_room(buf) >= n ? 0 : make_capacity(buf, size + n);
}

int buf_append(struct buf *buf, const void *bytes, size_t n)
{
	if (n == 0)
		return 0;
	if (buf_room(buf) < n) {
		/* Twice what is held: appending stays cheap; moving is paid for by consuming. */
		size_t more = buf_size(buf) > n ? buf_size(buf) : n;
		if (buf_size(buf) + more < CAPACITY_MIN)
			more = CAPACITY_MIN - buf_size(buf);
		if (more >= BUF_MAX - buf_size(buf))
			more = n;
		if (buf_reserve(buf, more) != 0 && buf_reserve(buf, n) != 0)
			return -ENOMEM;
	}
	memcpy(buf->memory + buf->end, bytes, n);
	buf->end += (uint32_t)n;
	return 0;
}

void buf_consume(struct buf *buf, size_t n)
{
	assert(n <= buf_size(buf));
	buf->begin += (uint32_t)n;
	if (buf->begin == buf->end)
		buf_clear(buf);
}

void buf_cut(struct buf *buf, size_t n)
{
	assert(n <= buf_size(buf));
	buf->end -= (uint32_t)n;
	if (buf->begin == buf->end)
		buf_clear(buf);
}

void buf_clear(struct buf *buf)
{
	free(buf->memory);
	*buf = (struct buf){.memory = NULL};
}
