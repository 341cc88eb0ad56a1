/* SPDX-License-Identifier: MIT */
#include "cases.h"

#include <sys/mman.h>

#include "common.h"
#include "log/log.h"

enum {
	BATCH = 16,
	SEGMENT_SIZE = 16 << 20, /* the defaults of the daemon */
	RETAIN_BYTES = 256 << 20,
	MESSAGE_BYTES = 160, /* of a segment, about */
};

/* How the keeper gets its memory, which bench_log.c's LINK line lets us decide. */
static const struct variant {
	const char *name, *text;
	int map_flags;
	bool is_huge;
} variants[] = {
	{"plain", "as it is: whoever appends touches it first", 0, false},
	{"populated", "the keeper would populate it", MAP_POPULATE, false},
	{"huge", "the keeper would ask for huge pages", 0, true},
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static const struct variant *variant = &variants[0];

void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *map = __real_mmap(at, size, prot, flags | variant->map_flags, fd, offset);
	if (map != MAP_FAILED && variant->is_huge)
		(void)madvise(map, size, MADV_HUGEPAGE);
	return map;
}

static struct log *the_log;
static struct epoch_thread epoch;

struct cost {
	double writer_ns, keeper_ns; /* of CPU, a message */
};

static struct cost append(size_t messages)
{
	struct message batch[BATCH];
	const uint64_t own_ns = cpu_ns(), all_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (size_t i = 0; i < BATCH; i++)
		batch[i] = make_message();
	for (size_t done = 0; done < messages;) {
		size_t appended;
		epoch_enter(&epoch);
		enum log_verdict verdict = log_append(the_log, batch, BATCH, &appended);
		epoch_leave(&epoch);
		done += appended;
		if (verdict != LOG_APPENDED)
			nap_us(100); /* the keeper is at it */
	}
	const double writer_ns = (double)(cpu_ns() - own_ns);
	const double both_ns = (double)(read_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - all_ns);
	return (struct cost){.writer_ns = writer_ns / (double)messages,
	                     .keeper_ns = (both_ns - writer_ns) / (double)messages};
}

/* First on memory that nobody has used, then on the same again. */
static void run(unsigned megabytes, struct cost *fresh, struct cost *reused)
{
	char error[LOG_ERROR_MAX];
	const struct log_options options = {.segment_size = SEGMENT_SIZE,
	                                    .retain_bytes = RETAIN_BYTES};
	const size_t messages = ((size_t)megabytes << 20) / MESSAGE_BYTES;
	struct wake *wake = wake_new(1);

	the_log = wake == NULL ? NULL : log_open(&options, wake, error, sizeof error);
	must(the_log != NULL, "the log can't be opened");
	epoch = (struct epoch_thread){.epoch = NULL};
	epoch_register(log_epoch(the_log), &epoch);
	*fresh = append(messages);
	(void)append((RETAIN_BYTES + 4UL * SEGMENT_SIZE) / MESSAGE_BYTES);
	*reused = append(messages);
	log_close(the_log);
	wake_free(wake);
}

void measure_memory(unsigned rounds, unsigned megabytes, FILE *csv)
{
	static double ns[VARIANTS][4][ROUNDS_MAX];

	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < VARIANTS; i++) {
			struct cost fresh, reused;
			variant = &variants[i];
			run(megabytes, &fresh, &reused);
			ns[i][0][round] = fresh.writer_ns;
			ns[i][1][round] = fresh.keeper_ns;
			ns[i][2][round] = reused.writer_ns;
			ns[i][3][round] = reused.keeper_ns;
		}
	}
	variant = &variants[0];
	printf("\n# Memory: ns of CPU a message, 1 writer, %d together; %u MiB at first use, then\n"
	       "# as much in segments used again (of %d MiB each, %d MiB kept)\n",
	       BATCH, megabytes, SEGMENT_SIZE >> 20, RETAIN_BYTES >> 20);
	printf("%-44s %10s %9s  %10s %9s\n", "", "first use", "keeper", "used again", "keeper");
	for (unsigned i = 0; i < VARIANTS; i++) {
		double cost[4];
		for (unsigned n = 0; n < 4; n++)
			cost[n] = median(ns[i][n], rounds);
		printf("%-44s %10.1f %9.1f  %10.1f %9.1f\n", variants[i].text, cost[0], cost[1],
		       cost[2], cost[3]);
		if (csv == NULL)
			continue;
		fprintf(csv, "memory-first-use,%s,1,0,%d,%.2f,NaN,NaN\n", variants[i].name, BATCH,
		        cost[0]);
		fprintf(csv, "memory-used-again,%s,1,0,%d,%.2f,NaN,NaN\n", variants[i].name, BATCH,
		        cost[2]);
	}
}
