/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=mmap */
/*
 * bench_log [--rounds N] [--quick] [--csv FILE] [CASE...]: what appending and reading cost without
 * sockets, beside what is most often built instead. The cases (all of them if none is named):
 *
 *     threads      1 to 4 writers, 0 to 64 subscribers on up to 4 threads
 *     subscribers  1 writer, 1 to 1000 subscribers on 2 threads
 *     holes        how long readers wait for a writer that the scheduler stopped in the middle
 *     memory       appends to memory at its first use and afterwards
 *
 * bench/log/ holds the rivals and the cases. The rivals take turns, N rounds of all; tables show
 * medians. The ratios are what counts: on a machine that others use too, nanoseconds mean nothing
 * by themselves. The CSV has a row for each rival of each line: ns are of CPU, for a message
 * appended and for a message that one subscriber reads; messages_per_s is by the wall clock, until
 * the last subscriber has read the last message.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "log/cases.h"
#include "log/contest.h"

enum { RIVALS = 3, ROUNDS = 5, ROUNDS_QUICK = 1 };

static const struct rival *const rivals[RIVALS] = {&rival_log, &rival_list, &rival_queue};

static struct {
	unsigned rounds;
	unsigned run_ms, hole_ms, megabytes;
	bool is_quick;
	FILE *csv; /* or NULL */
} options = {.rounds = ROUNDS, .run_ms = 40, .hole_ms = 400, .megabytes = 128};

/* ---- the contest ---- */

enum { APPEND, READ, RATE, FIGURES };

struct medians {
	double of[RIVALS][FIGURES];
};

static bool takes_part(const struct rival *rival, const struct shape *shape)
{
	return shape->subscribers > 0 || !rival->needs_subscribers;
}

static void hold(const struct shape *shape, struct medians *medians)
{
	static double all[RIVALS][FIGURES][ROUNDS_MAX];

	for (unsigned round = 0; round < options.rounds; round++) {
		for (unsigned i = 0; i < RIVALS; i++) {
			struct figures figures = {0};
			if (takes_part(rivals[i], shape))
				figures = contest_run(rivals[i], shape);
			all[i][APPEND][round] = figures.append_ns;
			all[i][READ][round] = figures.read_ns;
			all[i][RATE][round] = figures.messages_per_s;
		}
	}
	for (unsigned i = 0; i < RIVALS; i++)
		for (unsigned figure = 0; figure < FIGURES; figure++)
			medians->of[i][figure] = median(all[i][figure], options.rounds);
}

/* psad's figure, and how many times as good it is as each rival's. */
static void print_figure(const struct shape *shape, const struct medians *medians, unsigned figure)
{
	const double own = medians->of[0][figure];

	if (figure == READ && shape->subscribers == 0) {
		printf("  %8s %6s %6s", "-", "-", "-");
		return;
	}
	printf(figure == RATE ? "  %8.3f" : "  %8.1f", figure == RATE ? own / 1e6 : own);
	for (unsigned i = 1; i < RIVALS; i++) {
		const double theirs = medians->of[i][figure];
		if (takes_part(rivals[i], shape))
			printf(" %6.2f", figure == RATE ? own / theirs : theirs / own);
		else
			printf(" %6s", "-");
	}
}

static void print_shape(const char *scenario, const struct shape *shape,
                        const struct medians *medians)
{
	printf("%3u %5u %3zu", shape->writers, shape->subscribers, shape->batch);
	for (unsigned figure = 0; figure < FIGURES; figure++)
		print_figure(shape, medians, figure);
	printf("\n");
	fflush(stdout);
	for (unsigned i = 0; options.csv != NULL && i < RIVALS; i++) {
		const double *of = medians->of[i];
		if (!takes_part(rivals[i], shape))
			continue;
		fprintf(options.csv, "%s,%s,%u,%u,%zu,%.2f,", scenario, rivals[i]->name,
		        shape->writers, shape->subscribers, shape->batch, of[APPEND]);
		if (shape->subscribers > 0)
			fprintf(options.csv, "%.2f,%.0f\n", of[READ], of[RATE]);
		else
			fprintf(options.csv, "NaN,%.0f\n", of[RATE]);
	}
}

static void print_heading(const char *text)
{
	printf("\n# %s\n# list, queues: how many times as good psad's log is as that rival\n",
	       text);
	printf("%3s %5s %3s", "w", "subs", "bat");
	static const char *const figures[] = {"append ns", "read ns", "M msg/s"};
	for (unsigned i = 0; i < FIGURES; i++)
		printf(" %9s %6s %6s", figures[i], "list", "queues");
	printf("\n");
}

static void contest(const char *scenario, const struct shape *shape)
{
	static const size_t batches[] = {1, BATCH_MAX};

	for (unsigned i = 0; i < 2; i++) {
		struct shape with_batch = *shape;
		struct medians medians;
		with_batch.batch = batches[i];
		with_batch.duration_ns = options.run_ms * UINT64_C(1000000);
		hold(&with_batch, &medians);
		print_shape(scenario, &with_batch, &medians);
	}
}

static void contest_threads(void)
{
	static const unsigned writers[] = {1, 2, 4}, subscribers[] = {0, 1, 2, 4, 16, 64};

	print_heading("threads: writers, and subscribers on up to 4 threads");
	for (unsigned w = 0; w < 3; w++) {
		for (unsigned s = 0; s < 6; s++) {
			const unsigned n = subscribers[s];
			contest("threads", &(struct shape){.writers = writers[w],
			                                   .subscribers = n,
			                                   .readers = n < 4 ? n : 4});
		}
	}
}

static void contest_subscribers(void)
{
	static const unsigned subscribers[] = {1, 10, 100, 1000};

	print_heading("subscribers: one writer, subscribers on 2 threads");
	for (unsigned s = 0; s < 4; s++) {
		const unsigned n = subscribers[s];
		contest("subscribers",
		        &(struct shape){.writers = 1, .subscribers = n, .readers = n < 2 ? n : 2});
	}
}

/* ---- the command line ---- */

static const char usage[] =
	"usage: bench_log [--rounds N] [--quick] [--csv FILE] [threads|subscribers|holes|memory]...\n";

static _Noreturn void refuse(void)
{
	fputs(usage, stderr);
	exit(1);
}

static void open_csv(const char *path)
{
	options.csv = fopen(path, "w");
	if (options.csv == NULL) {
		perror(path);
		exit(1);
	}
	fputs("scenario,contestant,writers,subscribers,batch,append_ns,read_ns,messages_per_s\n",
	      options.csv);
}

/* Returns the index of the first case in argv. */
static int parse_arguments(int argc, char **argv)
{
	static const struct option longs[] = {{"rounds", required_argument, NULL, 'r'},
	                                      {"quick", no_argument, NULL, 'q'},
	                                      {"csv", required_argument, NULL, 'c'},
	                                      {NULL, 0, NULL, 0}};
	unsigned long rounds = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (option) {
		case 'r':
			rounds = strtoul(optarg, NULL, 10);
			if (rounds < 1 || rounds > ROUNDS_MAX)
				refuse();
			break;
		case 'q':
			options.is_quick = true;
			options.run_ms = 5;
			options.hole_ms = 100;
			options.megabytes = 32;
			break;
		case 'c':
			open_csv(optarg);
			break;
		default:
			refuse();
		}
	}
	options.rounds = rounds > 0 ? (unsigned)rounds : options.is_quick ? ROUNDS_QUICK : ROUNDS;
	return optind;
}

static bool is_wanted(const char *name, char **cases)
{
	if (*cases == NULL)
		return true;
	while (*cases != NULL)
		if (strcmp(*cases++, name) == 0)
			return true;
	return false;
}

static void check_cases(char **cases)
{
	static const char *const names[] = {"threads", "subscribers", "holes", "memory"};

	for (; *cases != NULL; cases++) {
		unsigned i = 0;
		while (i < 4 && strcmp(*cases, names[i]) != 0)
			i++;
		if (i == 4)
			refuse();
	}
}

static void print_machine(void)
{
	struct utsname system;

	(void)uname(&system);
	printf("# bench_log: %ld CPUs, %s %s %s, compiler %s\n", sysconf(_SC_NPROCESSORS_ONLN),
	       system.sysname, system.release, system.machine, __VERSION__);
	printf("# %d bytes of payload, runs of %u ms, median of %u rounds\n", PAYLOAD_SIZE,
	       options.run_ms, options.rounds);
}

/* Ticks of all CPUs since boot: [0] busy, [1] all; what a hypervisor took counts as busy. */
static void read_cpus(double ticks[2])
{
	/* user nice system idle iowait irq softirq steal */
	double of[8] = {0};
	FILE *file = fopen("/proc/stat", "r");

	ticks[0] = ticks[1] = 0;
	if (file == NULL)
		return;
	if (fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &of[0], &of[1], &of[2], &of[3],
	           &of[4], &of[5], &of[6], &of[7]) == 8)
		for (int i = 0; i < 8; i++) {
			ticks[1] += of[i];
			ticks[0] += i == 3 || i == 4 ? 0 : of[i];
		}
	(void)fclose(file);
}

/* Whoever reads the tables should know how much of the machine was ours. */
static void print_others(const double before[2])
{
	const double own = (double)read_clock_ns(CLOCK_PROCESS_CPUTIME_ID) * 1e-9 *
	                   (double)sysconf(_SC_CLK_TCK);
	double now[2];

	read_cpus(now);
	const double all = now[1] - before[1], others = now[0] - before[0] - own;
	if (all > 0)
		printf("\n# Others took %.0f %% of the CPUs meanwhile%s.\n",
		       others > 0 ? 100 * others / all : 0,
		       others > all / 20 ? ": figures of several threads are doubtful" : "");
}

int main(int argc, char **argv)
{
	double cpus[2];
	char **cases = argv + parse_arguments(argc, argv);

	check_cases(cases);
	print_machine();
	read_cpus(cpus);
	contest_open();
	if (is_wanted("threads", cases))
		contest_threads();
	if (is_wanted("subscribers", cases))
		contest_subscribers();
	contest_close();
	if (is_wanted("holes", cases))
		measure_holes(options.rounds, options.hole_ms);
	if (is_wanted("memory", cases))
		measure_memory(options.rounds, options.megabytes, options.csv);
	print_others(cpus);
	if (options.csv != NULL && fclose(options.csv) != 0) {
		perror("the CSV file");
		return 1;
	}
	return 0;
}
