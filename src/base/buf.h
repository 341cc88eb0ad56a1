/* SPDX-License-Identifier: MIT */
/*
 * buf: a queue of bytes that owns memory only while it holds some (or has had room made for some):
 * bytes are added at the end and taken off at the beginning. What points into it is good until the
 * next call that adds or drops.
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

enum { BUF_MAX = 1 << 30 }; /* bytes: there are always fewer */

static inline size_t buf_size(const struct buf *buf)
{
	return buf->end - buf->begin;
}
static inline char *buf_begin(const struct buf *buf)
{
	return buf->memory + buf->begin;
}

/* Appends n bytes. 0, or -ENOMEM and nothing changed. */
int buf_append(struct buf *buf, const void *bytes, size_t n);
/*
 * Makes room for n more bytes behind those that are held, where it is not there yet; the memory is
 * then exactly as large as that takes. 0, or -ENOMEM and nothing that is held has changed.
 */
int buf_reserve(struct buf *buf, size_t n);
/*
 * For bytes that are read into their place: after buf_reserve(), buf_room() bytes may be written at
 * buf_end(), and buf_grow() takes over the first n of them.
 */
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
/* Drops the first n bytes, which are there; the memory is released with the last one. */
void buf_consume(struct buf *buf, size_t n);
/* Drops the last n bytes, in the same way. */
void buf_cut(struct buf *buf, size_t n);
/* Drops everything. */
void buf_clear(struct buf *buf);

#endif
