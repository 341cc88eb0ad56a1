/* SPDX-License-Identifier: MIT */
/*
 * answer: the words that the server says: error codes, reasons, positions.
 *
 * One table for each, so that a name in the code and its word on the wire are one line. What they
 * mean is SPEC's, "What the server sends". Thread: any.
 */
#ifndef PSAD_WIRE_ANSWER_H
#define PSAD_WIRE_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#define ERROR_TABLE(X)                                                                             \
	X(UNKNOWN_COMMAND, "unknown-command")                                                      \
	X(BAD_ARGUMENT, "bad-argument")                                                            \
	X(BAD_TOPIC, "bad-topic")                                                                  \
	X(BAD_PATTERN, "bad-pattern")                                                              \
	X(BAD_FRAMING, "bad-framing")                                                              \
	X(LINE_TOO_LONG, "line-too-long")                                                          \
	X(PAYLOAD_TOO_LARGE, "payload-too-large")                                                  \
	X(TRUNCATED, "truncated")                                                                  \
	X(AHEAD_OF_LOG, "ahead-of-log")                                                            \
	X(LOG_FULL, "log-full")                                                                    \
	X(LOG_FAILED, "log-failed")                                                                \
	X(TOO_MANY, "too-many")                                                                    \
	X(SHUTTING_DOWN, "shutting-down")

enum error_code {
#define X(name, word) ERROR_##name,
	ERROR_TABLE(X)
#undef X
};

#define GAP_TABLE(X)                                                                               \
	X(RETENTION, "retention")                                                                  \
	X(VOID, "void")                                                                            \
	X(LOST, "lost")                                                                            \
	X(DAMAGED, "damaged")                                                                      \
	X(OTHER_LOG, "other-log")

enum gap_reason {
#define X(name, word) GAP_##name,
	GAP_TABLE(X)
#undef X
};

#define BYE_TABLE(X)                                                                               \
	X(QUIT, "quit")                                                                            \
	X(SHUTTING_DOWN, "shutting-down")                                                          \
	X(IDLE, "idle")

enum bye_reason {
#define X(name, word) BYE_##name,
	BYE_TABLE(X)
#undef X
};

/* The protocol's words; static. */
const char *error_word(enum error_code code);
const char *gap_word(enum gap_reason reason);
const char *bye_word(enum bye_reason reason);

/* "<id>@<log>", `log` being the log's identity, and a NUL: up to 20 digits, '@', 8 hex digits. */
enum { POSITION_MAX = 20 + 1 + 8 + 1 };
struct position_text {
	char at[POSITION_MAX];
};
struct position_text position_format(uint64_t id, uint32_t log);

#endif
