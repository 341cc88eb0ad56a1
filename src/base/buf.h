/* SPDX-License-Identifier: MIT */
/*
 * buf: a queue of bytes that owns memory only while it holds some.
 *
 * Thread: one at a time.
 */
#ifndef PSAD_BASE_BUF_H
#define PSAD_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

/* All zero is an empty one. */
struct buf {
	char *memory;
	uint32_t begin, end; /* of what is held, within memory */
	uint32_t capacity;
};

enum { BUF_MAX = 1 << 30 };

static inline size_t buf_size(const struct buf *buf)
{
	return buf->end - buf->begin;
}
static inline char *buf_begin(const struct buf *buf)
{
	return buf->memory + buf->begin;
}

/* Appends n bytes. 0, or -ENOMEM and nothing changed. Fewer than BUF_MAX bytes in all. */
int buf_append(struct buf *buf, const void *bytes, size_t n);
/*
 * Makes room for n more bytes behind buf_size() of them; capacity becomes exactly what is needed
 * where it is not there yet. 0 or -ENOMEM.
 */
int buf_reserve(struct buf *buf, size_t n);
/* Room behind what is held, and taking some of it into use. */
static inline size_t buf_room(const struct buf *buf)
{
	return buf->capacity - buf->end;
}
static inline char *buf_end(const struct buf *buf)
{
	return buf->memory + buf->end;
}
static inline void buf_grow(struct buf *buf, size_t n)
{
	buf->end += (uint32_t)n;
}
/* Drops the first n bytes; the memory is released with the last one. */
void buf_consume(struct buf *buf, size_t n);
/* Drops the last n bytes. */
void buf_cut(struct buf *buf, size_t n);
/* Drops everything. */
void buf_clear(struct buf *buf);

#endif
