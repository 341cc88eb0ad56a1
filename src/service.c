/* SPDX-License-Identifier: MIT */
#include "service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/diag.h"
#include "ops/manager.h"

enum {
	TICK_MS = 1000,
	STATUS_TICKS = 3,  /* between two lines while it runs */
	RECOVERY_MS = 250, /* between two words of recovery */
	FEEDS = 4,         /* looks within the watchdog's time: three may be in vain */
	VAIN_LOOKS = 2,    /* in a row, before it is said: a busy machine has one now and then */
};

/* What we ask for each time, in which we may be silent. Draining speaks each tick; opening and
 * closing a log may wait for a slow disk. */
#define DRAINING_US (15 * 1000000ULL)
#define LOG_US (120 * 1000000ULL)

struct service {
	struct service_options options;
	struct event *tick_event, *watch_event;
	unsigned ticks;
	bool is_stopping;
	unsigned vain_looks;    /* in a row */
	const char *said_stuck; /* the thread that was named for them; NULL: none */
	struct stats_figures last;
	uint64_t last_us;
	char said[MANAGER_STATUS_MAX];
};

/* ---- before there is a service ---- */

void service_opening(void)
{
	manager_tell_progress("opening the log", LOG_US);
}

void service_recovering(void *context, uint64_t done, uint64_t total)
{
	static uint64_t next_ms;
	char status[MANAGER_STATUS_MAX];
	uint64_t now_ms = clock_mono_ms();
	(void)context;

	/* The first, the last, and some in between. */
	if (now_ms < next_ms && done != total)
		return;
	next_ms = now_ms + RECOVERY_MS;
	snprintf(status, sizeof status, "recovering the log: %" PRIu64 " of %" PRIu64 " segments",
	         done, total);
	manager_tell_progress(status, LOG_US);
}

/* ---- the line ---- */

static struct stats_figures look(const struct service *service)
{
	struct stats_figures figures;

	epoch_enter(service->options.epoch);
	stats_look(service->options.stats, &figures);
	epoch_leave(service->options.epoch);
	return figures;
}

static uint64_t per_second(uint64_t now, uint64_t before, uint64_t passed_us)
{
	return passed_us == 0 ? 0 : (now - before) * 1000000 / passed_us;
}

/* What it does now, as a line. */
static void describe(struct service *service, char status[MANAGER_STATUS_MAX])
{
	struct stats_figures now = look(service);
	uint64_t now_us = clock_mono_us(), passed_us = now_us - service->last_us;
	char behind[80] = "";

	if (now.lagging_subscribers > 0)
		snprintf(behind, sizeof behind,
		         " (%" PRIu64 " behind, by up to %" PRIu64 " messages)",
		         now.lagging_subscribers, now.max_lag_messages);
	snprintf(status, MANAGER_STATUS_MAX,
	         "%" PRIu64 " connections, %" PRIu64 " subscribers%s; %" PRIu64
	         " messages/s published, %" PRIu64 " delivered",
	         now.connections, now.subscribers, behind,
	         per_second(now.published_total, service->last.published_total, passed_us),
	         per_second(now.delivered_total, service->last.delivered_total, passed_us));
	service->last = now;
	service->last_us = now_us;
}

static void say_draining(struct service *service, bool is_first)
{
	char status[MANAGER_STATUS_MAX];
	/* Relaxed: a statistic. */
	uint64_t left = atomic64_load_relaxed(&service->options.stats->hub->connections);

	snprintf(status, sizeof status, "draining, %" PRIu64 " connections left", left);
	if (is_first)
		manager_tell_stopping(status, DRAINING_US);
	else
		manager_tell_progress(status, DRAINING_US);
}

static void on_tick(int fd, short what, void *context)
{
	struct service *service = context;
	char status[MANAGER_STATUS_MAX];
	(void)fd;
	(void)what;

	diag_tell_suppressed();
	if (!manager_listens())
		return;
	if (service->is_stopping) {
		say_draining(service, false);
		return;
	}
	if (++service->ticks % STATUS_TICKS != 0)
		return;
	describe(service, status);
	if (strcmp(status, service->said) != 0)
		manager_tell(status);
	memcpy(service->said, status, sizeof service->said);
}

/* ---- the watchdog ---- */

/* Once, and when it is another one: of several the first is named until it moves. */
static void say_stuck(struct service *service, const char *name)
{
	static struct diag_limit limit;

	if (service->said_stuck != name)
		diag_limited(&limit, DIAG_WARNING,
		             "%s has not come round for a while: the watchdog is not fed", name);
	service->said_stuck = name;
}

static void on_watch(int fd, short what, void *context)
{
	struct service *service = context;
	struct vigil *vigil = service->options.vigil;
	(void)fd;
	(void)what;

	if (!vigil_look(vigil)) {
		if (++service->vain_looks >= VAIN_LOOKS)
			say_stuck(service, vigil_stuck(vigil));
		return;
	}
	if (service->said_stuck != NULL)
		diag(DIAG_NOTICE, "all threads come round again: the watchdog is fed");
	service->vain_looks = 0;
	service->said_stuck = NULL;
	manager_feed_watchdog();
	service->options.stir(service->options.context);
}

/* ---- life ---- */

static struct event *repeat(struct service *service, uint64_t period_us, event_callback_fn callback)
{
	const struct timeval period = {.tv_sec = (time_t)(period_us / 1000000),
	                               .tv_usec = (suseconds_t)(period_us % 1000000)};
	struct event *event =
		event_new(service->options.base, -1, EV_TIMEOUT | EV_PERSIST, callback, service);
	if (event != NULL)
		event_add(event, &period);
	return event;
}

struct service *service_new(const struct service_options *options)
{
	struct service *service = calloc(1, sizeof *service);
	uint64_t watchdog_us = manager_watchdog_us();

	if (service == NULL) {
		vigil_free(options->vigil);
		return NULL;
	}
	service->options = *options;
	service->tick_event = repeat(service, TICK_MS * UINT64_C(1000), on_tick);
	if (watchdog_us > 0)
		service->watch_event = repeat(service, watchdog_us / FEEDS, on_watch);
	if (service->tick_event == NULL || (watchdog_us > 0 && service->watch_event == NULL)) {
		service_free(service);
		return NULL;
	}
	service_reloaded(service);
	return service;
}

void service_free(struct service *service)
{
	if (service == NULL)
		return;
	diag_tell_suppressed();
	if (service->tick_event != NULL)
		event_free(service->tick_event);
	if (service->watch_event != NULL)
		event_free(service->watch_event);
	vigil_free(service->options.vigil);
	free(service);
}

void service_reloading(void)
{
	manager_tell_reloading("reading the configuration again");
}

void service_reloaded(struct service *service)
{
	char status[MANAGER_STATUS_MAX];

	if (!manager_listens())
		return;
	describe(service, status);
	manager_tell_ready(status);
}

void service_stopping(struct service *service)
{
	service->is_stopping = true;
	say_draining(service, true);
}

void service_closing(void)
{
	manager_tell_progress("closing the log", LOG_US);
}
