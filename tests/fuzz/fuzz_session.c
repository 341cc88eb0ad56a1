/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=pthread_create,--wrap=event_base_loop,--wrap=read,--wrap=send,--wrap=sendmsg */
/* LINK: -Wl,--wrap=getrandom,--wrap=clock_wall_us */
/* FUZZ: -max_len=2048 -dict=tests/fuzz/command.dict */
/*
 * Lets a client's bytes go all the way: socket, intake, parser, session, log, fan-out and back.
 *
 * A worker runs its real loop, in this thread: where it would sleep (event_base_loop) the client
 * has
 * its turn, and when both have nothing to do any more the next thing happens: the client closes its
 * side, the broker stops. Every session runs twice with a log of its own: with all bytes at once,
 * and
 * with reads and writes cut short as the input says. What must hold:
 *
 *     the same answers, and the same messages, however the bytes are cut
 *     what is in the log is, to the byte, what the parser alone takes for publishes, in this order,
 *     and it is what was acknowledged
 *     a subscriber gets each message that matches, once, by a naive matcher
 *     what the client reads is well formed: it can always tell where a message ends
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/hash.h"
#include "fuzz.h"
#include "log/frame.h"
#include "net/conn.h"
#include "plain.h"
#include "wire/command.h"

enum {
	OPTION_BYTES = 6,
	KEPT_MAX = 1024, /* messages of a log that are looked at */
	IDLE_TURNS = 3,  /* with nothing done: then nothing will be */
	TURNS_MAX = 1000000,
};

/* ---- the same in every run ---- */

static uint64_t random_state;

ssize_t __wrap_getrandom(void *at, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *at, size_t n, unsigned flags)
{
	uint64_t state = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15, __ATOMIC_RELAXED);
	(void)flags;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)at)[i] = (unsigned char)hash64(&i, sizeof i, state);
	return (ssize_t)n;
}

uint64_t __wrap_clock_wall_us(void);
uint64_t __wrap_clock_wall_us(void)
{
	return 1700000000000000;
}

/* ---- one session ---- */

enum ending { ENDS_EOF, ENDS_STOP, ENDS_ABORT, ENDINGS };

/* Bytes that grow. */
struct text {
	char *at;
	size_t n, room;
};

static void text_add(struct text *text, const void *bytes, size_t n)
{
	if (text->n + n + 1 > text->room) {
		text->room = 2 * (text->n + n + 1);
		text->at = realloc(text->at, text->room);
		FUZZ_CHECK(text->at != NULL);
	}
	if (n > 0)
		memcpy(text->at + text->n, bytes, n);
	text->n += n;
	text->at[text->n] = '\0';
}

static struct session {
	struct hub hub;
	struct worker *worker;
	void *(*run)(void *); /* of the worker's thread, which is ours */
	bool takes_thread;
	int fd;     /* the broker's, as long as it has it */
	int client; /* -1: closed */
	enum ending ending;
	bool is_unfinished; /* the client has begun a command, and says no more */

	size_t first_read, read_max, write_max; /* 0: no limit */
	bool has_read;
	unsigned idle, turns, steps;
	bool has_done; /* something in this turn */
	struct text transcript;
	struct text published; /* what is in the log: "<topic>|<payload>" LF ... */
	size_t topic_at[KEPT_MAX], topic_n[KEPT_MAX]; /* in `published`, by id */
	uint64_t head, before; /* the head at the end, and when the client came */
} the;

/* The worker's thread is this one; the log's are what they are. */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context)
{
	if (!the.takes_thread)
		return __real_pthread_create(thread, attributes, run, context);
	the.run = run;
	return 0;
}

ssize_t __real_read(int fd, void *at, size_t n);
ssize_t __wrap_read(int fd, void *at, size_t n);
ssize_t __wrap_read(int fd, void *at, size_t n)
{
	if (fd != the.fd || fd < 0)
		return __real_read(fd, at, n);
	size_t most = !the.has_read && the.first_read > 0 ? the.first_read : the.read_max;
	ssize_t got = __real_read(fd, at, most > 0 && most < n ? most : n);
	the.has_read = true;
	the.has_done = the.has_done || got > 0;
	return got;
}

static size_t write_limit(size_t n)
{
	return the.write_max > 0 && the.write_max < n ? the.write_max : n;
}

ssize_t __real_send(int fd, const void *at, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *at, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *at, size_t n, int flags)
{
	the.has_done = true;
	return __real_send(fd, at, fd == the.fd ? write_limit(n) : n, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	char bytes[4096];
	size_t n = 0, most = write_limit(sizeof bytes);

	for (size_t i = 0; i < message->msg_iovlen && n < most; i++) {
		const struct iovec *iov = &message->msg_iov[i];
		size_t piece = iov->iov_len < most - n ? iov->iov_len : most - n;
		memcpy(bytes + n, iov->iov_base, piece);
		n += piece;
	}
	the.has_done = true;
	return __real_send(fd, bytes, n, flags);
}

/* The client reads what there is. */
static void let_client_read(void)
{
	char bytes[65536];

	while (the.client >= 0) {
		ssize_t n = __real_read(the.client, bytes, sizeof bytes);
		if (n < 0 && errno == EAGAIN)
			return;
		the.has_done = true;
		if (n <= 0) {
			close(the.client);
			the.client = -1;
			return;
		}
		text_add(&the.transcript, bytes, (size_t)n);
	}
}

static void report(void *context)
{
	(void)context;
}

/* Neither side has anything to do. */
static void next_step(void)
{
	struct hub *hub = &the.hub;

	switch (the.steps++) {
	case 0:
		if (the.ending == ENDS_EOF && the.client >= 0)
			shutdown(the.client, SHUT_WR);
		if (the.ending == ENDS_ABORT && the.client >= 0) {
			close(the.client);
			the.client = -1;
		}
		break;
	case 1:
		atomic32_store_release(&hub->phase, PHASE_STOPPING);
		break;
	case 2:
		FUZZ_CHECK(atomic32_load_acquire(&hub->stopped_workers) == 1);
		epoch_enter(&the.worker->epoch);
		hub->drain_head = log_head(hub->log);
		epoch_leave(&the.worker->epoch);
		atomic32_store_release(&hub->phase, PHASE_DRAINING);
		break;
	case 3:
		/* A client that reads gets all of it and the end; but one that has begun a command
		 * has until drain_timeout. */
		FUZZ_CHECKF(the.is_unfinished && the.ending == ENDS_STOP,
		            "the session does not end");
		atomic32_store_release(&hub->phase, PHASE_ENDING);
		break;
	default:
		FUZZ_CHECKF(false, "the worker does not end");
	}
	worker_poke(the.worker);
}

/* Whether the worker waits for another thread of ours. */
static bool is_waiting(const struct worker *worker)
{
	return !TAILQ_EMPTY(&worker->starved) || !TAILQ_EMPTY(&worker->unsettled) ||
	       !TAILQ_EMPTY(&worker->cold);
}

int __real_event_base_loop(struct event_base *base, int flags);
int __wrap_event_base_loop(struct event_base *base, int flags);
int __wrap_event_base_loop(struct event_base *base, int flags)
{
	let_client_read();
	if (is_waiting(the.worker))
		sched_yield();
	else if (the.has_done || (flags & EVLOOP_NONBLOCK) != 0)
		the.idle = 0;
	else if (++the.idle > IDLE_TURNS) {
		the.idle = 0;
		next_step();
	}
	the.has_done = false;
	FUZZ_CHECKF(++the.turns < TURNS_MAX, "the worker does not come to rest");
	return __real_event_base_loop(base, flags | EVLOOP_NONBLOCK);
}

static int write_info(void *context, struct buf *out)
{
	(void)context;
	return buf_append(out, "INFO psad\n", 10);
}

static int write_stats(void *context, struct buf *out)
{
	(void)context;
	return buf_append(out, "STAT a 1\nEND\n", 13);
}

/* The topic of a message that is there when the client comes. */
static const char *kept_topic(uint64_t id)
{
	static const char *const topics[] = {"a", "a.b", "b", "a.b.c"};
	return topics[(id - 1) % 4];
}

static void fill(struct log *log, struct epoch_thread *epoch, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const char *topic = kept_topic(i + 1);
		struct message message = {.topic = topic,
		                          .topic_size = (uint32_t)strlen(topic),
		                          .payload = "kept",
		                          .payload_size = i % 5,
		                          .topic_hash =
		                                  topic_hash(log_hash_key(log),
		                                             (struct slice){topic, strlen(topic)})};
		size_t done = 0;
		epoch_enter(epoch);
		while (log_append(log, &message, 1, &done) == LOG_NO_SEGMENT)
			sched_yield();
		epoch_leave(epoch);
		FUZZ_CHECK(done == 1);
	}
}

/* What the log holds of the session, and that each frame is one. */
static void read_log(void)
{
	struct log *log = the.hub.log;
	struct epoch_thread *epoch = &the.worker->epoch;
	struct block block;

	epoch_enter(epoch);
	the.head = log_head(log);
	for (uint64_t id = 1; id <= the.head; id += block.count) {
		FUZZ_CHECK(log_block(log, id, the.head, &block) == BLOCK_HERE);
		for (uint32_t i = 0; i < block.count && id + i > 0; i++) {
			const struct entry *entry = block_entry(&block, i);
			uint32_t topic_n = entry_topic_size(entry);
			uint32_t n = frame_payload_size(id + i, topic_n, entry->size);
			const char *frame = block_frame(&block, i);
			if (id + i <= the.before)
				continue;
			if (id + i < KEPT_MAX) {
				the.topic_at[id + i] = the.published.n;
				the.topic_n[id + i] = topic_n;
			}
			text_add(&the.published, frame + frame_topic_offset(id + i), topic_n);
			text_add(&the.published, "|", 1);
			text_add(&the.published, frame + frame_payload_offset(id + i, topic_n, n),
			         n);
			text_add(&the.published, "\n", 1);
		}
	}
	epoch_leave(epoch);
}

struct plan {
	enum ending ending;
	bool is_unfinished;
	uint64_t max_payload, max_patterns;
	unsigned kept;
	size_t first_read, read_max, write_max;
};

static void begin_session(const struct plan *plan)
{
	const struct log_options options = {.segment_size = SEGMENT_SIZE_MIN};
	char error[LOG_ERROR_MAX];

	the = (struct session){.ending = plan->ending,
	                       .is_unfinished = plan->is_unfinished,
	                       .first_read = plan->first_read,
	                       .read_max = plan->read_max,
	                       .write_max = plan->write_max};
	random_state = 0;
	the.hub.wake = wake_new(1);
	the.hub.peers = peers_new();
	the.hub.log = log_open(&options, the.hub.wake, error, sizeof error);
	FUZZ_CHECK(the.hub.log != NULL);
	/* Until its first spares are there, so that nobody rings while the worker is added. */
	while (wake_value(the.hub.wake) == 0)
		sched_yield();
	the.hub.limits = (struct limits){.max_payload = plan->max_payload,
	                                 .max_patterns = plan->max_patterns,
	                                 .input_memory = 64 << 20,
	                                 .put_timeout_ms = 3600000,
	                                 .round_bytes = 1 << 20};
	the.hub.write_info = write_info;
	the.hub.write_stats = write_stats;
	the.hub.report = report;
	the.worker = worker_new(&the.hub, 0);
	FUZZ_CHECK(the.worker != NULL);
	fill(the.hub.log, &the.worker->epoch, plan->kept);
	the.before = plan->kept;
	text_add(&the.transcript, "", 0);
	text_add(&the.published, "", 0);
}

/* Runs a session; its transcript and what it has published are the caller's to free. */
static void run_session(const struct plan *plan, const uint8_t *bytes, size_t n)
{
	int pair[2];

	begin_session(plan);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	the.fd = pair[0];
	the.client = pair[1];
	FUZZ_CHECK(__real_send(the.client, bytes, n, 0) == (ssize_t)n);
	const struct handoff_item item = {.fd = the.fd, .is_unix = true};
	atomic64_add(&the.hub.connections, 1);
	FUZZ_CHECK(worker_give(the.worker, &item));

	the.takes_thread = true;
	FUZZ_CHECK(worker_start(the.worker) == 0);
	the.takes_thread = false;
	(void)the.run(the.worker);

	FUZZ_CHECK(atomic64_load_relaxed(&the.hub.connections) == 0);
	FUZZ_CHECK(atomic64_load_relaxed(&the.hub.input_memory) == 0);
	read_log();
	the.fd = -1;
	if (the.client >= 0)
		close(the.client);
	log_close(the.hub.log); /* it knows of the worker's epoch record */
	worker_free(the.worker);
	peers_free(the.hub.peers);
	wake_free(the.hub.wake);
}

/* ---- what the client makes of it ---- */

/* What the parser alone says of the bytes. */
struct said {
	struct text published; /* as in the session */
	unsigned subs, unsubs, pings;
	bool has_bare; /* TAIL or CAT: what is sent behind can't be told apart */
	bool has_lines, has_acks, has_quit, has_read;
	char patterns[1024]; /* of the last SUB, where they fit */
	bool fits;
	bool is_unfinished; /* the last command has no end */
};

static void note_command(struct said *said, const struct command *command,
                         const struct text *lines_topic)
{
	switch (command->verb) {
	case VERB_LINE:
	case VERB_PUB:
	case VERB_PUT:
		if (command->verb == VERB_LINE)
			text_add(&said->published, lines_topic->at, lines_topic->n);
		else
			text_add(&said->published, command->topic.at, command->topic.n);
		text_add(&said->published, "|", 1);
		text_add(&said->published, command->payload.at, command->payload.n);
		text_add(&said->published, "\n", 1);
		break;
	case VERB_SUB:
		said->subs++;
		said->fits = command->words.n < sizeof said->patterns;
		if (said->fits) {
			memcpy(said->patterns, command->words.at, command->words.n);
			said->patterns[command->words.n] = '\0';
		}
		break;
	case VERB_UNSUB:
		said->unsubs++;
		break;
	case VERB_PING:
		said->pings++;
		break;
	case VERB_TAIL:
	case VERB_CAT:
		said->has_bare = true;
		break;
	case VERB_LINES:
		said->has_lines = true;
		break;
	case VERB_ACKS:
		said->has_acks = true;
		break;
	case VERB_READ:
		said->has_read = true;
		break;
	case VERB_QUIT:
		said->has_quit = true;
		break;
	case VERB_INFO:
	case VERB_STATS:
	case VERB_HELP:
		break;
	}
}

static struct said parse(const struct plan *plan, const char *bytes, size_t n)
{
	const struct parser_limits limits = {.max_payload = plan->max_payload};
	struct said said = {.subs = 0};
	struct text topic = {.n = 0};
	struct parser parser;

	parser_init(&parser);
	text_add(&said.published, "", 0);
	while (n > 0) {
		struct command command;
		struct refusal refusal;
		size_t need;
		enum parser_verdict verdict =
			parser_next(&parser, &limits, bytes, n, &command, &need, &refusal);
		if (verdict == PARSER_PARTIAL)
			break;
		if (verdict == PARSER_COMMAND)
			note_command(&said, &command, &topic);
		if (verdict == PARSER_COMMAND && command.verb == VERB_LINES) {
			text_add(&topic, command.topic.at, command.topic.n);
			parser_enter_lines(&parser);
		}
		bytes += command.size;
		n -= command.size;
	}
	said.is_unfinished = n > 0 || parser.state == PARSER_DROP_BODY;
	free(topic.at);
	return said;
}

/* What came back, in two streams. */
struct reply {
	struct text answers, messages;
	uint64_t ids[KEPT_MAX];
	size_t count;       /* of messages */
	unsigned acks;      /* "OK <id>" */
	bool is_closed;     /* an error has said so */
	unsigned positions; /* "OK <position>" */
	uint64_t position;  /* of the last of these */
	uint64_t last_ack;
};

/* An answer is a line of printable bytes. */
static void take_answer(struct reply *reply, const char *line, size_t n, bool hides_positions)
{
	char copy[1024], word[16];
	uint64_t id;
	unsigned log;

	FUZZ_CHECK(n < sizeof copy);
	memcpy(copy, line, n);
	copy[n] = '\0';
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECKF((copy[i] >= ' ' && copy[i] <= '~') || copy[i] == '\r', "%s", copy);
	int count = sscanf(copy, "%15s %" SCNu64 "@%8x", word, &id, &log);
	bool is_ok = count >= 2 && strcmp(word, "OK") == 0;
	if (is_ok && count == 2 && strchr(copy + 3, ' ') == NULL) {
		FUZZ_CHECKF(id > reply->last_ack, "%s", copy);
		reply->last_ack = id;
		reply->acks++;
	}
	if (is_ok && count == 3) {
		reply->position = id;
		reply->positions++;
	}
	if (count == 3 && hides_positions)
		snprintf(copy, sizeof copy, "%s", word);
	reply->is_closed = reply->is_closed || strstr(copy, "the connection closes") != NULL;
	text_add(&reply->answers, copy, strlen(copy));
	text_add(&reply->answers, "\n", 1);
}

static struct reply read_reply(const struct text *transcript, const struct said *said,
                               bool hides_positions)
{
	const char *at = transcript->at, *end = at + transcript->n;
	struct reply reply = {.count = 0};
	uint64_t last = 0;

	while (at < end) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		uint64_t id;
		size_t size;
		FUZZ_CHECKF(stop != NULL, "the last line has no end: %s", at);
		if (strncmp(at, "MSG ", 4) != 0) {
			take_answer(&reply, at, (size_t)(stop - at), hides_positions);
			at = stop + 1;
			continue;
		}
		FUZZ_CHECK(sscanf(at, "MSG %" SCNu64 " %*s %zu\n", &id, &size) == 2);
		FUZZ_CHECKF(size < (size_t)(end - stop - 1), "a message is cut short");
		FUZZ_CHECK(stop[1 + size] == '\n');
		FUZZ_CHECKF(id > last || said->has_read || said->subs > 1, "ids fall");
		last = id;
		if (reply.count < KEPT_MAX)
			reply.ids[reply.count++] = id;
		text_add(&reply.messages, at, (size_t)(stop + 2 + size - at));
		at = stop + 2 + size;
	}
	text_add(&reply.answers, "", 0);
	text_add(&reply.messages, "", 0);
	return reply;
}

static void free_reply(struct reply *reply)
{
	free(reply->answers.at);
	free(reply->messages.at);
}

/* ---- what must hold ---- */

static bool any_matches(char *patterns, const char *topic, size_t topic_n)
{
	bool does = false;

	for (char *at = patterns; *at != '\0';) {
		size_t n = strcspn(at, " ");
		does = does || (n > 0 && plain_delivers((struct slice){at, n},
		                                        (struct slice){topic, topic_n}));
		at += n + (at[n] != '\0');
	}
	return does;
}

/* A subscription that stood from its start to the end of the session has had all that matches. */
static void check_delivered(const struct reply *reply, struct said *said)
{
	size_t next = 0;

	for (uint64_t id = 1; id <= the.head; id++) {
		const char *topic = kept_topic(id);
		size_t topic_n = strlen(topic);
		if (id > the.before) {
			topic = the.published.at + the.topic_at[id];
			topic_n = the.topic_n[id];
		}
		if (id <= reply->position || !any_matches(said->patterns, topic, topic_n))
			continue;
		/* Where an error closes, what follows has to be fetched anew. */
		if (next == reply->count && reply->is_closed)
			return;
		FUZZ_CHECKF(next < reply->count && reply->ids[next] == id,
		            "message %" PRIu64 " was not delivered", id);
		next++;
	}
	FUZZ_CHECKF(next == reply->count, "message %" PRIu64 " was delivered", reply->ids[next]);
}

/* What was published is the beginning of what the parser sees, and what was acknowledged. */
static void check_published(const struct said *said, const struct reply *reply)
{
	FUZZ_CHECKF(the.published.n <= said->published.n &&
	                    memcmp(the.published.at, said->published.at, the.published.n) == 0,
	            "published:\n%s\nsaid:\n%s", the.published.at, said->published.at);
	if (!said->has_acks && !said->has_lines && the.ending != ENDS_ABORT && reply != NULL)
		FUZZ_CHECKF(reply->acks == the.head - the.before,
		            "%" PRIu64 " messages, %u acknowledged", the.head - the.before,
		            reply->acks);
}

static void check_session(struct said *said, bool hides_positions, struct reply *reply)
{
	*reply = read_reply(&the.transcript, said, hides_positions);
	check_published(said, reply);
	if (said->subs == 1 && said->unsubs == 0 && said->fits && !said->has_read &&
	    reply->positions == 1 && the.head < KEPT_MAX && !said->is_unfinished)
		check_delivered(reply, said);
}

static void compare(const struct text *whole, const struct text *cut, const char *what)
{
	FUZZ_CHECKF(whole->n == cut->n && memcmp(whole->at, cut->at, whole->n) == 0,
	            "%s differ by how the bytes are cut\nwhole:\n%s\ncut:\n%s", what, whole->at,
	            cut->at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n <= OPTION_BYTES)
		return 0;
	const uint8_t *bytes = data + OPTION_BYTES;
	n -= OPTION_BYTES;
	struct plan plan = {.ending = data[3] % ENDINGS,
	                    .max_payload = 1 + data[0],
	                    .max_patterns = 1 + data[5] % 8,
	                    .kept = data[3] / 16};
	struct said said = parse(&plan, (const char *)bytes, n);
	struct text whole, published;
	struct reply reply, again;

	plan.is_unfinished = said.is_unfinished;

	run_session(&plan, bytes, n);
	whole = the.transcript;
	published = the.published;

	plan.first_read = data[1];
	plan.read_max = 1 + (size_t)data[2];
	plan.write_max = data[4] == 0 ? 0 : 15 + (size_t)data[4];
	bool is_loose = said.unsubs > 0 || (plan.write_max > 0 && said.subs > 1);
	bool hides = said.subs > 0 && (said.pings > 0 || is_loose);
	if (!said.has_bare && plan.ending != ENDS_ABORT)
		check_session(&said, hides, &reply);
	run_session(&plan, bytes, n);
	if (plan.ending == ENDS_ABORT) {
		check_published(&said, NULL);
	} else if (said.subs == 0 || said.has_bare) {
		if (said.subs == 0)
			compare(&whole, &the.transcript, "answers");
		compare(&published, &the.published, "messages published");
	}
	if (!said.has_bare && plan.ending != ENDS_ABORT) {
		check_session(&said, hides, &again);
		compare(&published, &the.published, "messages published");
		compare(&reply.answers, &again.answers, "answers");
		if (!is_loose && !reply.is_closed)
			compare(&reply.messages, &again.messages, "messages");
		free_reply(&reply);
		free_reply(&again);
	}
	free(whole.at);
	free(published.at);
	free(the.transcript.at);
	free(the.published.at);
	free(said.published.at);
	return 0;
}
