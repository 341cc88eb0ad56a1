/* SPDX-License-Identifier: MIT */
/*
 * rival_log: psad's own. Writers append as a worker does; a subscriber is an id; a reader looks at
 * the head once for all its subscribers and then at blocks, as a worker's fan-out does. What has
 * been read stays: the log keeps RETAIN_BYTES, which the other two do not do.
 */
#include "contest.h"

#include "log/log.h"

enum {
	RETAIN_BYTES = 64 << 20, /* more than a cache holds; what may be outstanding fits in */
	SEGMENT_SIZE = 4 << 20,  /* what psad's default for that limit would be */
	WARM_MESSAGES = 120000,  /* enough for the segments that idle time gave back */
};

static struct log *the_log;
static struct writer *first_writer;
static uint64_t positions[SUBSCRIBERS_MAX]; /* each written by its reader alone */

static void append(struct writer *writer, size_t n)
{
	size_t done = 0;

	for (;;) {
		size_t appended;
		epoch_enter(&writer->epoch);
		enum log_verdict verdict =
			log_append(the_log, writer->messages + done, n - done, &appended);
		epoch_leave(&writer->epoch);
		done += appended;
		if (verdict == LOG_APPENDED)
			return;
		nap_us(20); /* the keeper is at it */
	}
}

static void look(struct reader *reader)
{
	epoch_enter(&reader->epoch);
	reader->head = log_head(the_log);
	epoch_leave(&reader->epoch);
}

static size_t read_block(struct reader *reader, unsigned subscriber)
{
	struct block block;

	if (positions[subscriber] == reader->head)
		return 0;
	epoch_enter(&reader->epoch);
	must(log_block(the_log, positions[subscriber] + 1, reader->head, &block) == BLOCK_HERE,
	     "the log has dropped what was still to be read");
	for (uint32_t i = 0; i < block.count; i++) {
		const struct entry *entry = block_entry(&block, i);
		reader_consume(reader, block.map + entry->offset, entry->size);
	}
	epoch_leave(&reader->epoch);
	positions[subscriber] += block.count;
	return block.count;
}

/* First, memory is brought into use; then everybody stands at the head. */
static void open_run(const struct shape *shape)
{
	struct writer *writer = first_writer;

	for (size_t i = 0; i < BATCH_MAX; i++)
		writer->messages[i] = make_message();
	for (size_t i = 0; i < WARM_MESSAGES; i += BATCH_MAX)
		append(writer, BATCH_MAX);
	epoch_enter(&writer->epoch);
	uint64_t head = log_head(the_log);
	epoch_leave(&writer->epoch);
	for (unsigned i = 0; i < shape->subscribers; i++)
		positions[i] = head;
}

static void close_run(void)
{
}

void rival_log_open(struct wake *wake, struct writer *writers, struct reader *readers)
{
	char error[LOG_ERROR_MAX];
	const struct log_options options = {.segment_size = SEGMENT_SIZE,
	                                    .retain_bytes = RETAIN_BYTES};
	the_log = log_open(&options, wake, error, sizeof error);
	must(the_log != NULL, "the log can't be opened");
	for (unsigned i = 0; i < WRITERS_MAX; i++)
		epoch_register(log_epoch(the_log), &writers[i].epoch);
	for (unsigned i = 0; i < READERS_MAX; i++)
		epoch_register(log_epoch(the_log), &readers[i].epoch);
	first_writer = writers;
	for (int i = 0; i < 6; i++) /* RETAIN_BYTES and some more */
		open_run(&(struct shape){.subscribers = 0});
}

void rival_log_close(void)
{
	log_close(the_log);
}

const struct rival rival_log = {
	.name = "log",
	.open = open_run,
	.close = close_run,
	.append = append,
	.look = look,
	.read = read_block,
};
