/* SPDX-License-Identifier: MIT */
/*
 * command: the bytes that a client sends, taken apart (SPEC: wire protocol, version 1).
 *
 * parser_next() is asked with the bytes that have not been taken yet and answers with the next
 * command, or with what is missing, or with why it is refused. It is incremental: asked again
 * with the same bytes and more behind them it does not search twice for a line's end, and how the
 * bytes were cut into pieces never changes an answer. It knows no sockets and keeps no bytes: the
 * slices in a command point into the caller's buffer.
 *
 * Thread: one at a time per parser.
 */
#ifndef PSAD_WIRE_COMMAND_H
#define PSAD_WIRE_COMMAND_H

#include "wire/answer.h"
#include "wire/topic.h"

/* verb, what HELP shows of it */
#define VERB_TABLE(X)                                                                              \
	X(PUB, "PUB <topic> <text>  publish the rest of the line")                                 \
	X(PUT, "PUT <topic> <nbytes>  publish that many bytes from the next line on")              \
	X(LINES, "LINES <topic>  publish each line that follows, until you close your side")       \
	X(SUB, "SUB <pattern>... [AFTER <id>[@<log>] | LAST <n> | SINCE <time>]  subscribe")       \
	X(UNSUB, "UNSUB [<pattern>...]  unsubscribe")                                              \
	X(READ, "READ <pattern>... [<start>] [LIMIT <n>]  the kept messages, then END")            \
	X(TAIL, "TAIL <pattern>... [<start>]  bare payloads, one a line, as they come")            \
	X(CAT, "CAT <pattern>... [<start>] [LIMIT <n>]  the kept payloads, then close")            \
	X(ACKS, "ACKS ON|OFF  answer each publish, or only those that fail")                       \
	X(PING, "PING  answers PONG <position>")                                                   \
	X(INFO, "INFO  version, log, ids and limits on one line")                                  \
	X(STATS, "STATS  counters, one a line")                                                    \
	X(HELP, "HELP  this list")                                                                 \
	X(QUIT, "QUIT  finish what is owed, say BYE and close")

enum verb {
#define X(verb, help) VERB_##verb,
	VERB_TABLE(X)
#undef X
	/* One line of LINES, only behind parser_enter_lines(); `payload` is the line. */
	VERB_LINE,
};

/* The protocol's spelling of a verb, upper case ("PUB"); "LINE" for VERB_LINE. */
const char *verb_name(enum verb verb);
/* The nth line of HELP (without "HELP " and line end), NULL behind the last. */
const char *verb_help(size_t nth);

enum start_kind {
	START_NONE,  /* no <start> was given */
	START_AFTER, /* id, and log where has_log */
	START_LAST,  /* id is the number of messages */
	START_SINCE, /* time_us is Unix time in microseconds */
	START_AGE,   /* time_us is an age in microseconds */
};

struct start {
	enum start_kind kind;
	bool has_log;
	uint32_t log;
	uint64_t id;
	uint64_t time_us;
};

struct command {
	enum verb verb;
	size_t size;          /* bytes that the command took, line end and body included */
	struct slice topic;   /* PUB, PUT, LINES */
	struct slice payload; /* PUB, PUT, LINE */
	struct slice words;   /* SUB, UNSUB, READ, TAIL, CAT: the checked patterns, with spaces */
	size_t pattern_count; /* of `words` */
	struct start start;
	uint64_t limit; /* READ, CAT: at least 1; 0 when none was given */
	bool acks_on;   /* ACKS */
};

/* Takes the next pattern off *words (a copy of command.words); n = 0 when there is none left. */
struct slice command_next_pattern(struct slice *words);

struct parser_limits {
	size_t max_payload; /* bytes, at most SIZE_MAX / 4; may be another one at each call */
};

enum parser_state {
	PARSER_COMMANDS,  /* at the border of a command, or inside one that is not complete */
	PARSER_LINES,     /* the same for the lines of LINES */
	PARSER_DROP_LINE, /* inside a line already refused: bytes up to its LF are dropped */
	PARSER_DROP_BODY, /* inside the body of a refused PUT: `drop` bytes and a line end */
	PARSER_CLOSED,    /* the framing is lost: whatever comes is dropped (PARSER_NOTHING) */
};

struct parser {
	enum parser_state state;
	bool has_spoken;  /* a line that begins with a psad verb was seen */
	bool in_lines;    /* after a dropped line, back to PARSER_LINES */
	bool in_body;     /* the unfinished command is a PUT whose line is complete */
	bool has_drop_cr; /* the CR of a refused body's line end was dropped */
	size_t scanned;   /* leading bytes of the unfinished command that hold no LF */
	uint64_t drop;    /* bytes of a refused body still to be dropped */
	/* in_body: what its line said, as offsets, because the bytes may move between two calls. */
	size_t topic_at, topic_n;
	size_t body_at, body_n;
};

enum parser_verdict {
	PARSER_COMMAND, /* *command is one; command->size bytes are taken */
	PARSER_NOTHING, /* command->size bytes (> 0) are taken and mean nothing: an empty line,
	                   bytes of something refused before */
	PARSER_PARTIAL, /* the bytes are the beginning of a command; at least `need` bytes in all
	                   make it complete (a lower bound: n + 1 where it isn't known) */
	PARSER_REFUSED, /* *refusal; command->size bytes are taken (of a line too long those that
	                   show that it is, of a refused PUT its line); ask on unless `closes` */
};

struct refusal {
	enum error_code code;
	bool closes;    /* nothing of this connection's input can be trusted any more */
	bool is_http;   /* answer with a short HTTP 400 instead of ERR (and close) */
	char text[120]; /* without code and line end; says so when the connection closes */
};

void parser_init(struct parser *parser);

/*
 * From the next byte on each line is a message of a LINES command. Called when one was carried
 * out, before parser_next() is asked again.
 */
void parser_enter_lines(struct parser *parser);

/*
 * Looks at the n > 0 bytes at `bytes`, of which the first has not been taken before. On PARTIAL
 * nothing is taken, and the next call must begin with the same bytes. *need is set on PARTIAL
 * only, *refusal on REFUSED only. What each refusal does with the bytes behind it follows SPEC,
 * "Errors never turn data into commands".
 *
 * Bytes that were not taken when the client closes its side are the beginning of a command that
 * will not be executed ("truncated"); there are none while something refused is dropped.
 */
enum parser_verdict parser_next(struct parser *parser, const struct parser_limits *limits,
                                const char *bytes, size_t n, struct command *command, size_t *need,
                                struct refusal *refusal);

#endif
