/* SPDX-License-Identifier: MIT */
#include "ops/stats.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

struct sums {
#define X(name) uint64_t name;
	COUNTER_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	uint64_t lowest_position;
};

static struct sums sum_up(const struct stats_sources *sources)
{
	struct sums sums = {.lowest_position = UINT64_MAX};

	for (size_t i = 0; i < sources->counters_count; i++) {
		const struct counters *counters = sources->counters[i];
		/* Relaxed: statistics order nothing. */
#define X(name) sums.name += atomic64_load_relaxed(&counters->name);
		COUNTER_TABLE(X)
		GAUGE_TABLE(X)
#undef X
		uint64_t lowest = atomic64_load_relaxed(&counters->lowest_position);
		if (lowest < sums.lowest_position)
			sums.lowest_position = lowest;
	}
	return sums;
}

static uint64_t max_lag(const struct sums *sums, uint64_t head)
{
	return sums->lagging_subscribers == 0 || sums->lowest_position >= head
	               ? 0
	               : head - sums->lowest_position;
}

void stats_look(const struct stats_sources *sources, struct stats_figures *figures)
{
	struct sums sums = sum_up(sources);

#define X(name) figures->name = sums.name;
	COUNTER_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	figures->max_lag_messages = max_lag(&sums, log_head(sources->hub->log));
}

static int append(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int append(struct buf *out, const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	assert(n > 0 && (size_t)n < sizeof line);
	return buf_append(out, line, (size_t)n);
}

int stats_write_info(const struct stats_sources *sources, struct buf *out)
{
	struct log *log = sources->hub->log;
	uint64_t first = log_first(log);
	uint64_t synced = log_synced(log); /* before the head, so that it is never beyond it */
	uint64_t head = log_head(log);

	return append(out,
	              "INFO psad %s proto=1 log=%08" PRIx32 " first=%" PRIu64 " head=%" PRIu64
	              " synced=%" PRIu64 " fsync=%s max_payload=%" PRIu64 "\n",
	              PSAD_VERSION, log_identity(log), first, head, synced, log_sync_word(log),
	              limit_get(&sources->hub->limits.max_payload));
}

static int append_number(struct buf *out, const char *name, uint64_t value)
{
	return append(out, "STAT %s %" PRIu64 "\n", name, value);
}

int stats_write(const struct stats_sources *sources, struct buf *out)
{
	struct log *log = sources->hub->log;
	struct sums sums = sum_up(sources);
	struct log_figures figures;
	int error = 0;

	log_figures(log, &figures);
	error |= append(out, "STAT version %s\n", PSAD_VERSION);
	error |= append_number(out, "uptime_s", (clock_mono_ms() - sources->started_ms) / 1000);
	error |= append_number(out, "workers", sources->workers);
#define X(name) error |= append_number(out, #name, sums.name);
	GAUGE_TABLE(X)
	error |= append_number(out, "max_lag_messages", max_lag(&sums, figures.head));
	COUNTER_TABLE(X)
#undef X
	error |= append(out, "STAT log_identity %08" PRIx32 "\n", log_identity(log));
	error |= append_number(out, "log_first", figures.first);
	error |= append_number(out, "log_head", figures.head);
	error |= append_number(out, "log_synced", figures.synced);
	error |= append_number(out, "log_messages", figures.head + 1 - figures.first);
	error |= append_number(out, "log_bytes", figures.bytes);
	error |= append_number(out, "log_segments", figures.segments);
	error |= append_number(out, "input_memory_bytes",
	                       atomic64_load_relaxed(&sources->hub->input_memory));
	error |= append(out, "END\n");
	return error == 0 ? 0 : -ENOMEM;
}
