/* SPDX-License-Identifier: MIT */
/*
 * frame: the bytes of a message as every subscriber gets them, which is how the log holds them.
 *
 *     MSG <id> <topic> <n> LF  payload (n bytes)  LF
 *
 * All sizes are in bytes. Since the id is known from the index, the topic's place and the payload's
 * are arithmetic: nothing of the data is looked at to find them. Thread: any.
 */
#ifndef PSAD_LOG_FRAME_H
#define PSAD_LOG_FRAME_H

#include <stdint.h>
#include <string.h>

#include "base/decimal.h"

/* Where the topic begins in a frame: "MSG " + id + ' ' */
static inline uint32_t frame_topic_offset(uint64_t id)
{
	return 4U + decimal_digits(id) + 1U;
}

/* Where the payload begins in a frame. */
static inline uint32_t frame_payload_offset(uint64_t id, uint32_t topic_size, uint32_t payload_size)
{
	return frame_topic_offset(id) + topic_size + 1U + decimal_digits(payload_size) + 1U;
}

/* Of the whole frame. */
static inline uint32_t frame_size(uint64_t id, uint32_t topic_size, uint32_t payload_size)
{
	return frame_payload_offset(id, topic_size, payload_size) + payload_size + 1U;
}

/* The payload's size, from the frame's. */
static inline uint32_t frame_payload_size(uint64_t id, uint32_t topic_size, uint32_t size)
{
	/* What is left are n bytes and the digits of n; that sum grows with n, so one n fits. */
	uint32_t rest = size - (frame_topic_offset(id) + topic_size + 1U + 1U + 1U);
	uint32_t digits = decimal_digits(rest);
	if (decimal_digits(rest - digits) != digits)
		digits--;
	return rest - digits;
}

/* Writes a frame of frame_size() bytes at `at`. */
static inline void frame_write(char *at, uint64_t id, const char *topic, uint32_t topic_size,
                               const char *payload, uint32_t payload_size)
{
	memcpy(at, "MSG ", 4);
	at += 4;
	at += decimal_write(at, id);
	*at++ = ' ';
	memcpy(at, topic, topic_size);
	at += topic_size;
	*at++ = ' ';
	at += decimal_write(at, payload_size);
	*at++ = '\n';
	if (payload_size > 0)
		memcpy(at, payload, payload_size);
	at[payload_size] = '\n';
}

#endif
