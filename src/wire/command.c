/* SPDX-License-Identifier: MIT */
/*
 * What a refusal does with the bytes behind it is decided here and nowhere else:
 *
 *   COMMANDS --LINES carried out----------------> LINES
 *   COMMANDS --line too long, a PUB-------------> DROP_LINE --its LF---------------> COMMANDS
 *   LINES -----line too long--------------------> DROP_LINE --its LF---------------> LINES
 *   COMMANDS --PUT refused, body not too large--> DROP_BODY --body and line end----> COMMANDS
 *   COMMANDS, DROP_BODY --the end of what is refused is not certain----------------> CLOSED
 *
 * Any other refused line is just passed over. Nothing depends on how the bytes were cut: a
 * decision is made when a line is complete, or when so many bytes have come without LF that it is
 * too long, whether or not more bytes are there.
 */
#include "wire/command.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "wire/arguments.h"
#include "wire/words.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

enum {
	/* What a line may have beyond a payload: verb, topic and plenty of spaces. */
	LINE_EXTRA = 512,
	/* A refused body up to this size (or max_payload) is read and dropped. */
	DROP_MAX = 16 << 20,
};

/* What one call of parser_next() works on. */
struct call {
	struct parser *parser;
	size_t max_payload;
	struct slice input;
	struct command *command;
	size_t *need;
	struct refusal *refusal;
};

#define X(verb, help) [VERB_##verb] = #verb,
static const char *const verb_names[] = {[VERB_LINE] = "LINE", VERB_TABLE(X)};
#undef X

#define X(verb, help) help,
static const char *const verb_helps[] = {VERB_TABLE(X)};
#undef X

const char *verb_name(enum verb verb)
{
	assert((size_t)verb < ARRAY_SIZE(verb_names));
	return verb_names[verb];
}

const char *verb_help(size_t nth)
{
	return nth < ARRAY_SIZE(verb_helps) ? verb_helps[nth] : NULL;
}

struct slice command_next_pattern(struct slice *words)
{
	return words_next(words);
}

enum { VERB_MIN = 3, VERB_MAX = 5, NO_VERB = -1 };

/* A word of up to five capital letters as one number; its length tells apart leading NULs. */
#define PACK(n, a, b, c, d, e)                                                                     \
	((uint64_t)(n) << 40 | (uint64_t)(a) << 32 | (uint64_t)(b) << 24 | (uint64_t)(c) << 16 |   \
	 (uint64_t)(d) << 8 | (uint64_t)(e))

/* Says which verb a word is, in any case; NO_VERB: none. */
static int verb_find(struct slice word)
{
	if (word.n < VERB_MIN || word.n > VERB_MAX)
		return NO_VERB;

	uint64_t packed = word.n;
	for (size_t i = 0; i < VERB_MAX; i++) {
		/* Only the two cases of a letter become a capital without bit 0x20. */
		uint64_t letter = i < word.n ? (unsigned char)word.at[i] & 0xDFu : 0;
		packed = packed << 8 | letter;
	}
	switch (packed) {
	case PACK(3, 'P', 'U', 'B', 0, 0):
		return VERB_PUB;
	case PACK(3, 'P', 'U', 'T', 0, 0):
		return VERB_PUT;
	case PACK(5, 'L', 'I', 'N', 'E', 'S'):
		return VERB_LINES;
	case PACK(3, 'S', 'U', 'B', 0, 0):
		return VERB_SUB;
	case PACK(5, 'U', 'N', 'S', 'U', 'B'):
		return VERB_UNSUB;
	case PACK(4, 'R', 'E', 'A', 'D', 0):
		return VERB_READ;
	case PACK(4, 'T', 'A', 'I', 'L', 0):
		return VERB_TAIL;
	case PACK(3, 'C', 'A', 'T', 0, 0):
		return VERB_CAT;
	case PACK(4, 'A', 'C', 'K', 'S', 0):
		return VERB_ACKS;
	case PACK(4, 'P', 'I', 'N', 'G', 0):
		return VERB_PING;
	case PACK(4, 'I', 'N', 'F', 'O', 0):
		return VERB_INFO;
	case PACK(5, 'S', 'T', 'A', 'T', 'S'):
		return VERB_STATS;
	case PACK(4, 'H', 'E', 'L', 'P', 0):
		return VERB_HELP;
	case PACK(4, 'Q', 'U', 'I', 'T', 0):
		return VERB_QUIT;
	default:
		return NO_VERB;
	}
}

void parser_init(struct parser *parser)
{
	*parser = (struct parser){.state = PARSER_COMMANDS};
}

void parser_enter_lines(struct parser *parser)
{
	assert(parser->state == PARSER_COMMANDS);
	assert(!parser->in_body && parser->scanned == 0);

	parser->state = PARSER_LINES;
	parser->in_lines = true;
}

/* The command is refused and the connection goes on. */
static enum parser_verdict refuse(struct call *call, enum error_code code, const char *text)
{
	struct refusal *refusal = call->refusal;

	refusal->code = code;
	refusal->closes = false;
	refusal->is_http = false;
	snprintf(refusal->text, sizeof(refusal->text), "%s", text);
	return PARSER_REFUSED;
}

/* The command is refused, and nothing behind it can be trusted. */
static enum parser_verdict refuse_and_close(struct call *call, enum error_code code,
                                            const char *text)
{
	struct refusal *refusal = call->refusal;

	refuse(call, code, text);
	refusal->closes = true;
	snprintf(refusal->text, sizeof(refusal->text), "%s; the connection closes", text);
	call->parser->state = PARSER_CLOSED;
	return PARSER_REFUSED;
}

static enum parser_verdict partial(struct call *call, size_t need)
{
	*call->need = need;
	return PARSER_PARTIAL;
}

static enum parser_verdict nothing(struct call *call, size_t size)
{
	call->command->size = size;
	return PARSER_NOTHING;
}

/* <METHOD> <target> HTTP/<digit>.<digit> */
static bool is_http_request(struct slice line)
{
	struct slice method = words_next(&line);
	struct slice target = words_next(&line);
	struct slice version = words_next(&line);

	for (size_t i = 0; i < method.n; i++) {
		if (method.at[i] < 'A' || method.at[i] > 'Z')
			return false;
	}
	return target.n > 0 && version.n == 8 && memcmp(version.at, "HTTP/", 5) == 0 &&
	       version.at[5] >= '0' && version.at[5] <= '9' && version.at[6] == '.' &&
	       version.at[7] >= '0' && version.at[7] <= '9' && words_next(&line).n == 0;
}

/* A line, complete or too long, that does not begin with a verb. */
static enum parser_verdict refuse_unknown(struct call *call, bool is_http)
{
	if (call->parser->has_spoken)
		return refuse(call, ERROR_UNKNOWN_COMMAND, "no such command; HELP lists them");
	/* Somebody who does not speak psad's language, perhaps by the hand of a browser. */
	refuse_and_close(call, ERROR_UNKNOWN_COMMAND, "this is psad, and that no command of it");
	call->refusal->is_http = is_http;
	return PARSER_REFUSED;
}

/* The first `size` bytes hold no LF, and that is one more than a line may have. */
static enum parser_verdict take_too_long(struct call *call, size_t size)
{
	static const char text[] = "a line has at most max_payload + 512 bytes";
	struct parser *parser = call->parser;
	struct slice line = {call->input.at, size};

	call->command->size = size;
	if (parser->state == PARSER_LINES) {
		parser->state = PARSER_DROP_LINE;
		return refuse(call, ERROR_LINE_TOO_LONG, text);
	}

	struct slice word = words_next(&line);
	/* A word without a space behind it may go on, and is no verb yet. */
	int verb = line.n > 0 ? verb_find(word) : NO_VERB;
	if (verb == NO_VERB && !parser->has_spoken)
		return refuse_unknown(call, false);
	parser->has_spoken = true;
	if (verb != VERB_PUB)
		return refuse_and_close(call, ERROR_LINE_TOO_LONG, text);
	parser->state = PARSER_DROP_LINE;
	return refuse(call, ERROR_LINE_TOO_LONG, text);
}

/* PUB <topic> <text>: `rest` is what stands behind the verb. */
static enum parser_verdict take_pub(struct call *call, struct slice rest)
{
	struct command *command = call->command;
	struct slice topic = words_next(&rest);

	if (topic.n == 0)
		return refuse(call, ERROR_BAD_ARGUMENT, "PUB takes a topic and a text");
	const char *reason = topic_check(topic);
	if (reason != NULL)
		return refuse(call, ERROR_BAD_TOPIC, reason);
	/* One space ends the topic; all others are the text's. */
	if (rest.n > 0)
		rest = (struct slice){rest.at + 1, rest.n - 1};
	if (rest.n > call->max_payload)
		return refuse(call, ERROR_PAYLOAD_TOO_LARGE, "the text is longer than max_payload");
	command->topic = topic;
	command->payload = rest;
	return PARSER_COMMAND;
}

/* A line of LINES. */
static enum parser_verdict take_line(struct call *call, struct slice line)
{
	if (line.n > call->max_payload)
		return refuse(call, ERROR_PAYLOAD_TOO_LARGE, "the line is longer than max_payload");
	*call->command = (struct command){
		.verb = VERB_LINE,
		.size = call->command->size,
		.payload = line,
	};
	return PARSER_COMMAND;
}

/*
 * The body of a PUT whose line is done, if it is there. That line was read when it was complete;
 * a body that comes in many pieces costs nothing until its last.
 */
static enum parser_verdict take_body(struct call *call)
{
	struct parser *parser = call->parser;
	struct slice input = call->input;
	size_t end =
		parser->body_at + parser->body_n; /* parser_next() asserts that it can't wrap */

	if (input.n <= end)
		return partial(call, end + 1);
	size_t size = end + 1;
	if (input.at[end] == '\r') {
		if (input.n <= size)
			return partial(call, size + 1);
		size++;
	}

	parser->in_body = false;
	parser->scanned = 0;
	*call->command = (struct command){
		.verb = VERB_PUT,
		.size = size,
		.topic = {input.at + parser->topic_at, parser->topic_n},
		.payload = {input.at + parser->body_at, parser->body_n},
	};
	if (input.at[size - 1] != '\n')
		return refuse_and_close(call, ERROR_BAD_FRAMING,
		                        "a PUT's bytes must end with a line end");
	return PARSER_COMMAND;
}

/*
 * A PUT whose length is known is refused at once, when its line is complete. Its body must never
 * be taken for commands (beanstalkd's CVE-2010-2060): it is dropped, or the connection ends.
 */
static enum parser_verdict refuse_body(struct call *call, uint64_t length, enum error_code code,
                                       const char *text)
{
	if (length > DROP_MAX && length > call->max_payload)
		return refuse_and_close(call, code, text);
	call->parser->state = PARSER_DROP_BODY;
	call->parser->drop = length;
	return refuse(call, code, text);
}

/* PUT <topic> <nbytes>: `rest` is what stands behind the verb. */
static enum parser_verdict take_put(struct call *call, struct slice rest)
{
	struct parser *parser = call->parser;
	struct slice topic = words_next(&rest);
	struct slice digits = words_next(&rest);
	uint64_t length;

	if (!word_number(digits, &length) || words_next(&rest).n > 0)
		return refuse_and_close(call, ERROR_BAD_FRAMING, "PUT takes a topic and a length");
	const char *reason = topic_check(topic);
	if (reason != NULL)
		return refuse_body(call, length, ERROR_BAD_TOPIC, reason);
	if (length > call->max_payload)
		return refuse_body(call, length, ERROR_PAYLOAD_TOO_LARGE,
		                   "the length is more than max_payload");

	parser->in_body = true;
	parser->scanned = call->command->size - 1;
	parser->topic_at = (size_t)(topic.at - call->input.at);
	parser->topic_n = topic.n;
	parser->body_at = call->command->size;
	parser->body_n = (size_t)length;
	return take_body(call);
}

/* ---- publishing as programs write it ---- */

/*
 * "PUT <topic> <nbytes>" LF, read in one pass instead of word by word: it is what there is most of.
 * False where anything is not just so, and then nothing has changed: whatever it is, take_put()
 * finds out.
 */
static bool scan_put(struct call *call)
{
	struct parser *parser = call->parser;
	const char *at = call->input.at;
	const char *end = at + call->input.n;
	uint64_t length = 0;

	if (call->input.n < 4 || memcmp(at, "PUT ", 4) != 0)
		return false;
	size_t topic_size = topic_scan(at + 4, call->input.n - 4);
	if (topic_size == 0)
		return false;
	const char *digits = at + 4 + topic_size + 1, *digit = digits;
	/* Up to 9 digits can't be too many, whatever they are. */
	for (; digit < end && digit - digits < 9 && *digit >= '0' && *digit <= '9'; digit++)
		length = length * 10 + (uint64_t)(*digit - '0');
	if (digit == digits || digit == end || *digit != '\n' || length > call->max_payload)
		return false;
	parser->has_spoken = true;
	parser->in_body = true;
	parser->topic_at = 4;
	parser->topic_n = topic_size;
	parser->body_at = (size_t)(digit + 1 - at);
	parser->body_n = (size_t)length;
	parser->scanned = parser->body_at - 1;
	return true;
}

/* All others: `rest` is what stands behind the verb. */
static enum parser_verdict take_arguments(struct call *call, struct slice rest)
{
	struct command *command = call->command;
	struct fault fault;

	if (arguments_parse(rest, command, &fault))
		return PARSER_COMMAND;
	/*
	 * What follows LINES was meant as data; and who takes bare payloads off the wire cannot
	 * tell a refusal from one.
	 */
	if (command->verb == VERB_LINES || command->verb == VERB_TAIL || command->verb == VERB_CAT)
		return refuse_and_close(call, fault.code, fault.text);
	return refuse(call, fault.code, fault.text);
}

/* The same for a complete line "PUB <topic> <text>", without its end. */
static bool scan_pub(struct call *call, struct slice line)
{
	struct command *command = call->command;
	size_t topic_size = line.n > 4 && memcmp(line.at, "PUB ", 4) == 0
	                            ? topic_scan(line.at + 4, line.n - 4)
	                            : 0;
	size_t text_at = 4 + topic_size + 1;

	if (topic_size == 0 || line.n - text_at > call->max_payload)
		return false;
	call->parser->has_spoken = true;
	*command = (struct command){
		.verb = VERB_PUB,
		.size = command->size,
		.topic = {line.at + 4, topic_size},
		.payload = {line.at + text_at, line.n - text_at},
	};
	return true;
}

/* A complete line, without its end, outside of LINES. */
static enum parser_verdict take_command(struct call *call, struct slice line)
{
	if (scan_pub(call, line))
		return PARSER_COMMAND;

	struct slice rest = line;
	struct slice word = words_next(&rest);

	if (word.n == 0)
		return nothing(call, call->command->size);
	int verb = verb_find(word);
	if (verb == NO_VERB)
		return refuse_unknown(call, is_http_request(line));
	call->parser->has_spoken = true;
	*call->command = (struct command){.verb = (enum verb)verb, .size = call->command->size};
	if (verb == VERB_PUB)
		return take_pub(call, rest);
	if (verb == VERB_PUT)
		return take_put(call, rest);
	return take_arguments(call, rest);
}

/* The state is COMMANDS or LINES, and a line is to come. */
static enum parser_verdict next_line(struct call *call)
{
	struct parser *parser = call->parser;
	struct slice input = call->input;
	size_t max_line = call->max_payload + LINE_EXTRA;
	size_t window = input.n < max_line + 1 ? input.n : max_line + 1;
	const char *end = NULL;

	if (parser->state == PARSER_COMMANDS && parser->scanned == 0 && scan_put(call))
		return take_body(call);
	/* (More can be scanned than may be looked at, where max_payload was lowered.) */
	if (parser->scanned < window)
		end = memchr(input.at + parser->scanned, '\n', window - parser->scanned);
	if (end == NULL && input.n <= max_line) {
		parser->scanned = input.n;
		return partial(call, input.n + 1);
	}
	parser->scanned = 0;
	if (end == NULL)
		return take_too_long(call, window);

	struct slice line = {input.at, (size_t)(end - input.at)};
	call->command->size = line.n + 1;
	if (line.n > 0 && line.at[line.n - 1] == '\r')
		line.n--;
	return parser->state == PARSER_LINES ? take_line(call, line) : take_command(call, line);
}

static enum parser_verdict drop_line(struct call *call)
{
	struct parser *parser = call->parser;
	const char *end = memchr(call->input.at, '\n', call->input.n);

	if (end == NULL)
		return nothing(call, call->input.n);
	parser->state = parser->in_lines ? PARSER_LINES : PARSER_COMMANDS;
	return nothing(call, (size_t)(end - call->input.at) + 1);
}

static enum parser_verdict drop_body(struct call *call)
{
	struct parser *parser = call->parser;

	if (parser->drop > 0) {
		size_t n = call->input.n < parser->drop ? call->input.n : (size_t)parser->drop;
		parser->drop -= n;
		return nothing(call, n);
	}

	/* The line end behind it, byte by byte, so that nothing is left when the input ends. */
	char byte = call->input.at[0];
	if (byte == '\r' && !parser->has_drop_cr) {
		parser->has_drop_cr = true;
		return nothing(call, 1);
	}
	parser->has_drop_cr = false;
	if (byte == '\n') {
		parser->state = PARSER_COMMANDS;
		return nothing(call, 1);
	}
	call->command->size = 1;
	return refuse_and_close(call, ERROR_BAD_FRAMING, "a PUT's bytes must end with a line end");
}

enum parser_verdict parser_next(struct parser *parser, const struct parser_limits *limits,
                                const char *bytes, size_t n, struct command *command, size_t *need,
                                struct refusal *refusal)
{
	assert(n > 0);
	/* So that neither a line's limit nor the end of a body can wrap. */
	assert(limits->max_payload <= SIZE_MAX / 4);

	struct call call = {
		.parser = parser,
		.max_payload = limits->max_payload,
		.input = {bytes, n},
		.command = command,
		.need = need,
		.refusal = refusal,
	};
	switch (parser->state) {
	case PARSER_COMMANDS:
		return parser->in_body ? take_body(&call) : next_line(&call);
	case PARSER_LINES:
		return next_line(&call);
	case PARSER_DROP_LINE:
		return drop_line(&call);
	case PARSER_DROP_BODY:
		return drop_body(&call);
	case PARSER_CLOSED:
		return nothing(&call, n);
	}
	assert(0 && "a parser that parser_init() has not seen");
	return nothing(&call, n);
}
