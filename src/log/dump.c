/* SPDX-License-Identifier: MIT */
#include "log/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "base/escape.h"
#include "log/assess.h"
#include "log/frame.h"

static const char *const reasons[] = {[LOSS_NONE] = "none",
                                      [LOSS_VOID] = "void",
                                      [LOSS_LOST] = "lost",
                                      [LOSS_DAMAGED] = "damaged"};

struct dump {
	struct survey survey;
	struct assessment assessment;
	const struct dump_filter *filter;
	FILE *out;
	char log[16]; /* the identity, as it is shown */
	uint64_t messages;
	uint64_t second; /* whose text is in `time` */
	char time[32];
	/* Neighbouring ids with the same to be said: said when something else comes. */
	struct pending {
		uint64_t from, to;
		const char *reason; /* of a gap; NULL: damage */
		const char *why;
		const struct piece *piece;
		uint64_t at;
	} pending;
};

/* ---- lines ---- */

static void print_damage(struct dump *dump, const struct piece *piece, uint64_t at,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

static void print_damage(struct dump *dump, const struct piece *piece, uint64_t at,
                         const char *format, ...)
{
	char name[STORE_NAME_MAX];
	va_list arguments;

	store_name(piece->number, name);
	fprintf(dump->out, "DAMAGED %s %" PRIu64 " ", name, at);
	va_start(arguments, format);
	vfprintf(dump->out, format, arguments);
	va_end(arguments);
	fputc('\n', dump->out);
}

static void flush_pending(struct dump *dump)
{
	const struct pending *pending = &dump->pending;

	if (pending->from == 0)
		return;
	if (pending->reason != NULL)
		fprintf(dump->out, "GAP %" PRIu64 " %" PRIu64 " %s\n", pending->from, pending->to,
		        pending->reason);
	else
		print_damage(dump, pending->piece, pending->at, "%" PRIu64 " %" PRIu64 " %s",
		             pending->from, pending->to, pending->why);
	dump->pending = (struct pending){.from = 0};
}

static void add_pending(struct dump *dump, const struct pending *more)
{
	struct pending *pending = &dump->pending;

	if (pending->from != 0 && pending->to + 1 == more->from &&
	    pending->reason == more->reason && pending->why == more->why &&
	    pending->piece == more->piece) {
		pending->to = more->to;
		return;
	}
	flush_pending(dump);
	*pending = *more;
}

static void add_gap(struct dump *dump, uint64_t from, uint64_t to, const char *reason)
{
	const struct pending gap = {.from = from, .to = to, .reason = reason};
	add_pending(dump, &gap);
}

static void print_time(struct dump *dump, uint64_t time_us)
{
	uint64_t second = time_us / 1000000;
	struct tm parts;
	time_t time = (time_t)second;

	if (second != dump->second || dump->time[0] == '\0') {
		if (gmtime_r(&time, &parts) == NULL ||
		    strftime(dump->time, sizeof dump->time, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
			snprintf(dump->time, sizeof dump->time, "-");
		dump->second = second;
	}
	fprintf(dump->out, "%s.%06uZ", dump->time, (unsigned)(time_us % 1000000));
}

static void print_topic(struct dump *dump, const char *topic, size_t n)
{
	for (size_t i = 0; i < n;) {
		char piece[ESCAPE_MAX];
		size_t taken = 0;
		size_t length = escape_one((const unsigned char *)topic + i, n - i, piece, &taken);
		if (topic[i] == ' ') /* it would end the word */
			length = (size_t)snprintf(piece, sizeof piece, "\\x20");
		fwrite(piece, 1, length, dump->out);
		i += taken;
	}
}

static void print_message(struct dump *dump, const struct entry *entry, uint64_t id,
                          const char *frame)
{
	const struct dump_filter *filter = dump->filter;
	uint32_t topic_size = entry_topic_size(entry);
	const char *topic = frame + frame_topic_offset(id);

	dump->messages++;
	if (filter->selects != NULL && !filter->selects(topic, topic_size, filter->context))
		return;
	flush_pending(dump);
	fprintf(dump->out, "%" PRIu64 "@%s ", id, dump->log);
	print_time(dump, entry_time_us(entry));
	fputc(' ', dump->out);
	print_topic(dump, topic, topic_size);
	fprintf(dump->out, " %" PRIu32 "\n", frame_payload_size(id, topic_size, entry->size));
}

/* ---- a segment ---- */

static const char *why_marked(const struct run *run)
{
	switch (run->kind) {
	case RUN_EMPTY:
		return "nothing stands there, though it must";
	case RUN_UNCOMMITTED:
	case RUN_MENDABLE:
		return "only the commit word is wrong: a repair mends it";
	case RUN_BAD:
		break;
	}
	return "the checksum is wrong";
}

/* A slot that is not good. */
static void show_bad(struct dump *dump, const struct piece *piece, uint32_t i,
                     const struct run *run)
{
	uint64_t id = piece->verdict.base + i;
	struct pending bad = {.from = id,
	                      .to = id,
	                      .piece = piece,
	                      .why = why_marked(run),
	                      .at = piece->segment->size -
	                            ((uint64_t)i + 1) * sizeof(struct entry)};

	switch (slot_fate(dump->assessment.mode, piece, run->kind, id)) {
	case FATE_LEAVE:
		add_gap(dump, id, id, reasons[mode_loss(dump->assessment.mode)]);
		break;
	case FATE_MARK:
	case FATE_MEND:
		add_pending(dump, &bad);
		break;
	}
}

static void show_slot(struct dump *dump, const struct piece *piece, char *map, uint32_t i)
{
	static const struct run changed = {.kind = RUN_BAD};
	const struct segment *segment = piece->segment;
	const struct entry *entry = map_entry(map, segment->size, i);
	const struct run *run = piece_run(piece, i);
	uint64_t id = 0, expected = piece->verdict.base + i;
	/* Once more: nothing keeps others from changing it meanwhile. */
	enum slot slot = run == NULL ? verify_slot(segment, map, i, &id) : SLOT_BAD;

	if (run == NULL && slot == SLOT_GOOD && id == expected)
		print_message(dump, entry, id, map + entry->offset);
	else if (run == NULL && slot == SLOT_MARKER && id == expected)
		add_gap(dump, id, id, reasons[entry->offset]);
	else
		show_bad(dump, piece, i, run == NULL ? &changed : run);
}

static void show_header(struct dump *dump, const struct piece *piece)
{
	static const struct {
		unsigned fault;
		size_t at;
		const char *why;
	} parts[] = {
		{FAULT_CONSTANT, offsetof(struct segment_header, constant), "constant part"},
		{FAULT_GAP, offsetof(struct segment_header, gap), "gap part"},
		{FAULT_SEAL, offsetof(struct segment_header, seal), "seal"},
		{FAULT_SYNCED, offsetof(struct segment_header, synced), "synced marks"},
		{FAULT_FILTER, FILTER_OFFSET, "filter"},
	};
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		if ((piece->faults & parts[i].fault) == 0)
			continue;
		/* A crash may leave a seal half written, and a start does not need it. */
		if (parts[i].fault == FAULT_SEAL && !piece->verdict.writes_seal &&
		    !piece->verdict.clears_seal)
			continue;
		print_damage(dump, piece, parts[i].at, "- - the header's %s is damaged",
		             parts[i].why);
	}
	if ((piece->faults & FAULT_SIZE) != 0)
		print_damage(dump, piece, piece->file_size,
		             "- - the file ends here, and not at byte %" PRIu64,
		             piece->header.constant.size);
	if ((piece->faults & FAULT_UNREAD) != 0)
		print_damage(dump, piece, 0, "- - the file can't be read everywhere");
	if (piece->verdict.wipes)
		print_damage(dump, piece, piece->segment->size,
		             "- - behind its last message "
		             "stands what can't be");
}

static void show_gap(struct dump *dump, const struct piece *piece)
{
	const struct verdict *verdict = &piece->verdict;

	if (verdict->gap_from == 0 || verdict->gap_from >= verdict->base)
		return;
	if (verdict->writes_gap && verdict->loss == LOSS_DAMAGED) {
		flush_pending(dump);
		print_damage(dump, piece, 0, "%" PRIu64 " %" PRIu64 " missing before this file's",
		             verdict->gap_from, verdict->base - 1);
	} else {
		add_gap(dump, verdict->gap_from, verdict->base - 1, reasons[verdict->loss]);
	}
}

/* 0 or a negative errno. */
static int show_piece(struct dump *dump, struct piece *piece)
{
	const struct verdict *verdict = &piece->verdict;
	char *map = NULL;

	if (piece->segment == NULL) {
		if (verdict->action == ACTION_REPLACE || verdict->action == ACTION_ASIDE)
			print_damage(dump, piece, 0, "- - %s", piece->why);
		if (verdict->action == ACTION_ADD)
			show_gap(dump, piece);
		return 0;
	}
	show_header(dump, piece);
	show_gap(dump, piece);
	if (verdict_entries(verdict) == 0)
		return 0;
	int error = piece_map(dump->survey.store, piece, &map);
	if (error == -ENOENT && dump->survey.owner != 0) {
		add_gap(dump, verdict->base, verdict->end - 1, "retention");
		return 0;
	}
	if (error != 0)
		return error;
	for (uint32_t i = 0; i < verdict_entries(verdict) && ferror(dump->out) == 0; i++)
		show_slot(dump, piece, map, i);
	flush_pending(dump);
	piece_unmap(piece, map);
	return 0;
}

/* ---- the directory ---- */

static void show_log(struct dump *dump)
{
	const struct survey *survey = &dump->survey;

	if (!survey->is_known)
		fprintf(dump->out, "DAMAGED log 0 - - %s\n", survey->log_fault);
	else if (dump->assessment.mode == MODE_RENEWED)
		fprintf(dump->out, "DAMAGED log 0 - - the newest messages are gone, and nothing "
		                   "says how many there were\n");
	else if (dump->assessment.writes_log)
		fprintf(dump->out, "DAMAGED log 0 - - is older than the segments\n");
}

static const char *ending_word(const struct dump *dump)
{
	if (dump->survey.owner != 0)
		return "running";
	if (!dump->survey.is_known)
		return "unknown";
	switch (dump->survey.ending) {
	case ENDED_CLEAN:
		return "clean";
	case ENDED_PROCESS:
		return dump->survey.log.end == STORE_NEW ? "new" : "killed";
	case ENDED_MACHINE:
		break;
	}
	return "power-lost";
}

static void show_summary(struct dump *dump)
{
	const struct survey *survey = &dump->survey;
	const struct assessment *assessment = &dump->assessment;
	uint64_t bytes = 0, files = 0;

	for (size_t i = 0; i < survey->count; i++) {
		files += survey->pieces[i].has_file;
		bytes += survey->pieces[i].file_size;
	}
	fprintf(dump->out,
	        "LOG %s segments=%" PRIu64 " messages=%" PRIu64 " bytes=%" PRIu64 " first=%" PRIu64
	        " head=%" PRIu64 " ended=%s damaged=%" PRIu64 "\n",
	        dump->log, files, dump->messages, bytes, assessment->first,
	        assessment->end == 0 ? 0 : assessment->end - 1, ending_word(dump),
	        assessment->damaged);
}

static enum dump_verdict show_all(struct dump *dump, char *error, size_t error_size)
{
	struct survey *survey = &dump->survey;
	int result = 0;

	show_log(dump);
	for (size_t i = 0; i <= survey->count && result == 0; i++) {
		result = show_piece(dump, &survey->pieces[i]);
		flush_pending(dump);
	}
	if (result == 0)
		show_summary(dump);
	if (result != 0) {
		snprintf(error, error_size, "%s: can't be read: %s", store_dir(survey->store),
		         strerror(-result));
		return DUMP_FAILED;
	}
	errno = 0;
	if (fflush(dump->out) == 0 && ferror(dump->out) == 0)
		return dump->assessment.changes > 0 ? DUMP_DAMAGED : DUMP_WHOLE;
	/* What it was is not kept where it came earlier: most likely the same. */
	if (errno == EPIPE || errno == 0)
		return DUMP_CUT;
	snprintf(error, error_size, "%s: can't be written out: %s", store_dir(survey->store),
	         strerror(errno));
	return DUMP_FAILED;
}

enum dump_verdict log_dump(const char *dir, const struct dump_filter *filter, FILE *out,
                           char *error, size_t error_size)
{
	struct dump dump = {.filter = filter, .out = out};
	enum dump_verdict verdict = DUMP_FAILED;
	struct store *store = store_look(dir, error, error_size);

	if (store == NULL)
		return DUMP_FAILED;
	if (survey_read(&dump.survey, store, error, error_size) == 0 &&
	    assess(&dump.survey, &dump.assessment, error, error_size) == 0) {
		if (dump.survey.is_known)
			snprintf(dump.log, sizeof dump.log, "%08" PRIx32, dump.survey.log.identity);
		else
			snprintf(dump.log, sizeof dump.log, "unknown");
		verdict = show_all(&dump, error, error_size);
	}
	survey_free(&dump.survey);
	store_close(store);
	return verdict;
}
