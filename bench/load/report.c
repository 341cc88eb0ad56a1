/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>

static void print_text(const char *key, const char *text)
{
	printf("\"%s\": \"", key);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar((unsigned char)*text < ' ' ? ' ' : *text);
	}
	putchar('"');
}

static void print_count(const char *key, uint64_t number)
{
	printf(", \"%s\": %" PRIu64, key, number);
}

/* null where it is not known. */
static void print_real(const char *key, double number, bool is_known)
{
	if (is_known)
		printf(", \"%s\": %.9g", key, number);
	else
		printf(", \"%s\": null", key);
}

static void print_bytes(const char *key, uint64_t bytes, bool is_known)
{
	print_real(key, (double)bytes, is_known);
}

static void print_histogram(const char *key, const struct histogram *histogram)
{
	if (histogram == NULL || histogram->total == 0) {
		printf(", \"%s\": null", key);
		return;
	}
	printf(", \"%s\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}", key,
	       histogram_us(histogram, 0.5), histogram_us(histogram, 0.99),
	       histogram_us(histogram, 0.999), (double)histogram->max / 1000);
}

static void print_settings(const struct report *report)
{
	const struct options *options = report->options;

	printf("{");
	print_text("name", options->name);
	printf(", ");
	print_text("proto", options_proto_name(options->proto));
	print_count("subs", options->subs);
	print_count("stopped", options->stopped);
	print_count("pubs", options->pubs);
	print_count("messages", report->messages);
	print_count("size", options->size);
}

static void print_cpu(const struct report *report)
{
	const struct usage *begin = &report->begin, *end = &report->end;
	double cpu_s = end->cpu_s - begin->cpu_s, messages = (double)report->messages;
	double deliveries = (double)report->subs.deliveries;
	bool is_known = report->options->pid != 0;

	print_real("cpu_s", cpu_s, is_known);
	print_real("cpu_user_s", end->user_s - begin->user_s, is_known);
	print_real("cpu_system_s", end->system_s - begin->system_s, is_known);
	print_real("cpu_ns_per_delivery", cpu_s * 1e9 / deliveries, is_known && deliveries > 0);
	print_real("cpu_ns_per_message", cpu_s * 1e9 / messages, is_known && messages > 0);
	print_real("load_cpu_s", report->load_cpu_s, true);
	print_bytes("rss_start", report->start.rss, is_known);
	print_bytes("rss_peak", end->rss_peak, is_known);
	print_bytes("rss_end", end->rss, is_known);
}

static void print_idle(const struct report *report)
{
	bool is_known = report->options->pid != 0;
	double before = (double)report->start.rss, after = (double)report->idle.rss;
	double n = (double)(report->options->subs + report->options->stopped);

	print_real("rss_before", before, is_known);
	print_real("rss_after", after, is_known);
	print_real("rss_per_subscriber", (after - before) / n, is_known && n > 0);
}

void report_print(const struct report *report)
{
	const struct subs_result *subs = &report->subs;
	double seconds = report->seconds;
	bool is_timed = seconds > 0;

	print_settings(report);
	print_count("deliveries", subs->deliveries);
	print_count("delivered_bytes", subs->bytes);
	print_real("seconds", seconds, true);
	print_real("deliveries_per_s", (double)subs->deliveries / seconds, is_timed);
	print_real("messages_per_s", (double)report->messages / seconds, is_timed);
	print_cpu(report);
	print_histogram("latency_us", report->latency);
	print_histogram("ok_latency_us", report->ok_latency);
	if (report->options->start == START_RESUME)
		print_real("storm_seconds", seconds, true);
	if (report->options->is_idle)
		print_idle(report);
	print_count("gaps", subs->gaps);
	print_count("disconnected", subs->disconnected);
	print_count("stopped_disconnected", subs->stopped_disconnected);
	printf(", \"complete\": %s}\n", report->is_complete ? "true" : "false");
	fflush(stdout);
}
