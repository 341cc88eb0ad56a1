/* SPDX-License-Identifier: MIT */
/*
 * report: the line of JSON that a run ends with.
 */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include "histogram.h"
#include "options.h"
#include "process.h"
#include "subs.h"

struct report {
	const struct options *options;
	uint64_t messages; /* that the measured interval is about */
	struct subs_result subs;
	struct usage start;      /* before anything was connected */
	struct usage begin, end; /* of the measured interval */
	struct usage idle;       /* when all were subscribed and quiet; of --idle */
	double load_cpu_s;       /* load's own in that interval */
	double seconds;
	const struct histogram *latency, *ok_latency;
	bool is_complete;
};

void report_print(const struct report *report);

#endif
