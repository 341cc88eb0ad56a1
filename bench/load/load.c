/* SPDX-License-Identifier: MIT */
/*
 * load: publishers and subscribers of five protocols, and what a run of them costs a server. One
 * thread has all subscribers, another all publishers. usage() in options.c is the manual.
 *
 *     --preload  ->  connect  ->  subscribe  ->  [ publish ... last delivery ]  ->  settle
 *     all:                        [ subscribe, publish ... last delivery ]
 *     resume:    publish  ->      [ connect, subscribe ... last delivery ]
 *
 * What is in brackets is measured.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "options.h"
#include "plan.h"
#include "process.h"
#include "pubs.h"
#include "report.h"
#include "subs.h"

enum { IDLE_MS = 200 };

struct run {
	struct options options;
	struct plan plan;
	uint64_t base;   /* psad: the head at the start, else 0 */
	char where[128]; /* psad: where subscribers start, " AFTER <base>@<log>" or "" */
	struct share *shares;
	struct subs *subs;
	struct pubs *pubs;
	struct report report;
	struct histogram latency, ok_latency;
	char reason[512]; /* why it is not complete: the first, or "" */
};

static void note(struct run *run, const char *reason)
{
	if (run->reason[0] == '\0')
		snprintf(run->reason, sizeof run->reason, "%s", reason);
}

static uint64_t deadline(const struct run *run)
{
	return now_ns() + run->options.timeout_s * 1000000000U;
}

static void measure_server(const struct run *run, struct usage *usage)
{
	int error = process_usage((int)run->options.pid, usage);

	if (error != 0) {
		errno = -error;
		die("the server's process");
	}
}

static double own_cpu_s(void)
{
	struct usage usage;

	return process_usage(getpid(), &usage) == 0 ? usage.cpu_s : 0;
}

/* psad: where its log is now. */
static void learn_position(struct run *run)
{
	char line[1024] = "", log[64] = "";
	size_t n = 0;
	int fd = net_connect(run->options.port);

	net_send_all(fd, "INFO\n", 5);
	for (ssize_t got; n < sizeof line - 1 && strchr(line, '\n') == NULL; line[n] = '\0') {
		if ((got = recv(fd, line + n, sizeof line - 1 - n, 0)) <= 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	const char *head = strstr(line, " head="), *name = strstr(line, " log=");
	if (head == NULL || name == NULL || sscanf(name, " log=%63[0-9a-z]", log) != 1)
		die("INFO is not answered");
	run->base = strtoull(head + 6, NULL, 10);
	if (run->options.start != START_LIVE)
		snprintf(run->where, sizeof run->where, " AFTER %" PRIu64 "@%s", run->base, log);
}

/* Publishes what is not measured; returns whether all was taken. */
static bool publish(struct run *run, uint64_t from, uint64_t to)
{
	struct pubs *pubs = pubs_open(&run->plan, from, to, NULL);
	struct pollfd done = {.fd = pubs_done_fd(pubs), .events = POLLIN};
	struct pubs_result result;

	pubs_start(pubs);
	(void)poll(&done, 1, (int)(run->options.timeout_s * 1000));
	pubs_join(pubs, &result);
	if (!result.is_complete)
		note(run, result.errors > 0 ? result.reason : "publishing was not over in time");
	return result.is_complete;
}

/* Up to the moment when measuring begins. */
static bool prepare(struct run *run)
{
	const struct options *options = &run->options;
	uint64_t before = options->start == START_RESUME ? run->plan.total : run->plan.begin;

	if (options->proto == PROTO_PSAD)
		learn_position(run);
	process_reset_peak((int)options->pid);
	measure_server(run, &run->report.start);
	run->shares = calloc(options->subs + 1, sizeof *run->shares);
	if (run->shares == NULL)
		die("memory");
	if (before > 0 && !publish(run, 0, before))
		return false;
	bool has_byte_counts = plan_shares(&run->plan, run->base, run->shares);
	run->subs = subs_open(options, run->shares, has_byte_counts, run->where,
	                      options->has_latency ? &run->latency : NULL);
	if (options->start == START_RESUME)
		return true;
	if (!subs_connect(run->subs, deadline(run)) ||
	    (options->start == START_LIVE && !subs_subscribe(run->subs, true, deadline(run)))) {
		note(run, "not all subscribers were connected and answered in time");
		return false;
	}
	if (before < run->plan.total)
		run->pubs = pubs_open(&run->plan, before, run->plan.total, &run->ok_latency);
	return true;
}

static void measure(struct run *run)
{
	struct report *report = &run->report;
	struct pubs_result pubs = {.is_complete = true};
	enum start start = run->options.start;

	subs_begin(run->subs, run->pubs == NULL ? -1 : pubs_done_fd(run->pubs));
	measure_server(run, &report->begin);
	double cpu_s = own_cpu_s();
	uint64_t begin_ns = now_ns();
	if (start == START_RESUME)
		subs_storm(run->subs);
	if (start == START_ALL)
		(void)subs_subscribe(run->subs, false, 0);
	if (run->pubs != NULL)
		pubs_start(run->pubs);
	bool is_finished = subs_finish(run->subs, deadline(run));
	uint64_t end_ns = now_ns();
	report->load_cpu_s = own_cpu_s() - cpu_s;
	subs_linger(run->subs, now_ns() + run->options.settle_ms * 1000000);
	measure_server(run, &report->end);
	if (run->pubs != NULL)
		pubs_join(run->pubs, &pubs);
	subs_close(run->subs, &report->subs);
	run->subs = NULL;
	if (is_finished && report->subs.last_ns > 0)
		end_ns = report->subs.last_ns;
	else if (is_finished && run->pubs != NULL)
		end_ns = pubs.end_ns;
	report->seconds = (double)(end_ns - begin_ns) / 1e9;
	if (!pubs.is_complete)
		note(run, pubs.errors > 0 ? pubs.reason : "publishing was not over in time");
}

/* Subscribes all, and nothing else. */
static void stay_idle(struct run *run)
{
	subs_linger(run->subs, now_ns() + IDLE_MS * 1000000U);
	measure_server(run, &run->report.idle);
	run->report.begin = run->report.end = run->report.idle;
	subs_close(run->subs, &run->report.subs);
	run->subs = NULL;
}

static void judge(struct run *run)
{
	const struct subs_result *subs = &run->report.subs;
	char text[256];

	if (subs->errors > 0)
		note(run, subs->reason);
	if (subs->disconnected > 0) {
		snprintf(text, sizeof text, "the server closed %" PRIu64 " subscribers",
		         subs->disconnected);
		note(run, text);
	}
	if (subs->unfinished > 0) {
		snprintf(text, sizeof text, "%" PRIu64 " subscribers did not get all in time",
		         subs->unfinished);
		note(run, text);
	}
	run->report.is_complete = run->reason[0] == '\0';
	if (!run->report.is_complete)
		fprintf(stderr, "load: %s\n", run->reason);
}

int main(int argc, char **argv)
{
	static struct run run;
	struct options *options = &run.options;

	options_parse(options, argc, argv);
	net_raise_files();
	plan_make(&run.plan, options);
	run.report.options = options;
	run.report.latency = &run.latency;
	run.report.ok_latency = &run.ok_latency;
	run.report.messages = options->messages + options->also_messages;
	bool is_ready = prepare(&run);
	if (is_ready && options->is_idle)
		stay_idle(&run);
	else if (is_ready)
		measure(&run);
	if (run.subs != NULL)
		subs_close(run.subs, &run.report.subs);
	judge(&run);
	report_print(&run.report);
	free(run.shares);
	return run.report.is_complete ? 0 : 1;
}
