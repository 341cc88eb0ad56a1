/* SPDX-License-Identifier: MIT */
/* Model: tests/models/stop.pml */
/* Model: tests/models/wake.pml */
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/diag.h"
#include "listening.h"
#include "net/acceptor.h"
#include "net/loop.h"
#include "net/worker.h"
#include "ops/machine.h"
#include "ops/stats.h"
#include "ops/vigil.h"
#include "service.h"

enum {
	WORKERS_MAX = 1024,
	OWN_DESCRIPTORS = 64, /* besides the workers' and the connections' */
	WORKER_DESCRIPTORS = 4,
};

struct server {
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	_Alignas(CACHE_LINE) struct hub hub;
	struct config config;
	const struct server_sources *sources;
	uint64_t open_files;

	struct event_base *base;
	struct event *signals[3];
	struct event *report_event;
	struct event *drain_event;
	int report_fd;

	struct worker **workers;
	size_t worker_count, running_count;
	struct acceptor *acceptor;
	const struct counters **counters;
	struct stats_sources stats;
	struct service *service;
	enum phase phase;
};

/* ---- what the configuration means ---- */

static struct log_options log_options(const struct config *config)
{
	return (struct log_options){
		.segment_size = config->segment_size,
		.retain_bytes = config->retain_bytes,
		.retain_messages = config->retain_messages,
		.retain_age_us = config->retain_age_ms * 1000,
		.dir = config->log_dir,
		.sync = config->log_fsync,
		.sync_interval_us = config->log_fsync_interval_ms * 1000,
		.progress = service_recovering,
	};
}

static struct acceptor_options acceptor_options(const struct server *server)
{
	const struct config *config = &server->config;
	uint64_t own = OWN_DESCRIPTORS + WORKER_DESCRIPTORS * server->worker_count;
	uint64_t most = server->open_files > own + 1 ? server->open_files - own : 1;

	return (struct acceptor_options){
		.max_connections = config->max_connections > 0 ? config->max_connections : most,
		.max_connections_per_ip = config->max_connections_per_ip,
		.send_buffer = config->send_buffer,
		.keepalive_ms = config->keepalive_ms,
	};
}

/* So little that retention never drops what followers have not had a chance to be sent. */
static uint64_t round_bytes(const struct config *config)
{
	enum { MOST = 4 << 20, LEAST = 64 << 10 };
	uint64_t bytes = config->retain_bytes == 0 ? MOST : config->retain_bytes / 16;
	return bytes > MOST ? MOST : bytes < LEAST ? LEAST : bytes;
}

static void set_limits(struct server *server)
{
	const struct config *config = &server->config;
	struct limits *limits = &server->hub.limits;
	/* Relaxed: each stands for itself. */
	atomic64_store_relaxed(&limits->max_payload, config->max_payload);
	atomic64_store_relaxed(&limits->max_patterns, config->max_patterns);
	atomic64_store_relaxed(&limits->input_memory, config->input_memory);
	atomic64_store_relaxed(&limits->put_timeout_ms, config->put_timeout_ms);
	atomic64_store_relaxed(&limits->idle_timeout_ms, config->idle_timeout_ms);
	atomic64_store_relaxed(&limits->keepalive_ms, config->keepalive_ms);
	atomic64_store_relaxed(&limits->round_bytes, round_bytes(config));
	atomic64_add(&limits->version, 1);
	for (size_t i = 0; i < server->running_count; i++)
		worker_poke(server->workers[i]);
}

/* ---- upcalls of the workers; any thread ---- */

static int write_info(void *context, struct buf *out)
{
	const struct server *server = context;
	return stats_write_info(&server->stats, out);
}

static int write_stats(void *context, struct buf *out)
{
	const struct server *server = context;
	return stats_write(&server->stats, out);
}

static void report(void *context)
{
	const struct server *server = context;
	(void)eventfd_write(server->report_fd, 1);
}

/* ---- the end ---- */

static void enter_phase(struct server *server, enum phase phase)
{
	if (phase <= server->phase)
		return;
	server->phase = phase;
	atomic32_store_release(&server->hub.phase, phase); /* [O10] */
	for (size_t i = 0; i < server->running_count; i++)
		worker_poke(server->workers[i]);
}

static void on_drain_timeout(int fd, short what, void *context)
{
	struct server *server = context;
	(void)fd;
	(void)what;
	diag(DIAG_WARNING, "server.drain_timeout is over: cutting %" PRIu64 " connections",
	     atomic64_load_relaxed(&server->hub.connections)); /* a statistic */
	enter_phase(server, PHASE_ENDING);
}

static void begin_end(struct server *server, const char *why)
{
	uint64_t timeout_ms = server->config.drain_timeout_ms;
	const struct timeval timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
	                                .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};
	diag(DIAG_NOTICE, "%s: stopping", why);
	acceptor_stop(server->acceptor);
	service_stopping(server->service);
	event_add(server->drain_event, &timeout);
	enter_phase(server, PHASE_STOPPING);
}

/* A worker has reported: perhaps they all have. */
static void on_report(int fd, short what, void *context)
{
	struct server *server = context;
	struct hub *hub = &server->hub;
	eventfd_t count;
	(void)what;

	(void)eventfd_read(fd, &count);
	if (server->phase == PHASE_STOPPING &&
	    atomic32_load_acquire(&hub->stopped_workers) == server->running_count) {
		epoch_enter(&server->epoch);
		hub->drain_head = log_head(hub->log); /* published by the phase [O10] */
		epoch_leave(&server->epoch);
		enter_phase(server, PHASE_DRAINING);
	}
	if (atomic32_load_acquire(&hub->finished_workers) == server->running_count)
		event_base_loopbreak(server->base);
}

/* ---- signals ---- */

static const char *or_none(const char *value)
{
	return value[0] != '\0' ? value : "(none)";
}

static void say_change(void *context, const struct config_change *change)
{
	(void)context;
	if (change->is_applied)
		diag(DIAG_NOTICE, "reload: %s = %s (was %s)", change->key, or_none(change->now),
		     or_none(change->before));
	else
		diag(DIAG_WARNING, "reload: %s = %s needs a restart (stays %s)", change->key,
		     or_none(change->now), or_none(change->before));
}

/* Takes over what `fresh` may change now, all of it or nothing. */
static int apply(struct server *server, struct config *fresh, char *error, size_t error_size)
{
	struct listening_change listening;

	if (config_check_reload(&server->config, fresh, error, error_size) != 0 ||
	    listening_prepare(&listening, server->acceptor, fresh, error, error_size) != 0)
		return -1;
	/* Nothing fails from here on. */
	listening_make(&listening);
	config_adopt(&server->config, fresh, say_change, NULL);
	const struct log_options log = log_options(&server->config);
	const struct acceptor_options accepting = acceptor_options(server);
	diag_set_level(server->config.log_level);
	set_limits(server);
	log_set_retention(server->hub.log, &log);
	log_set_sync_interval(server->hub.log, log.sync_interval_us);
	acceptor_set_options(server->acceptor, &accepting);
	return 0;
}

static void reload(struct server *server)
{
	const struct server_sources *sources = server->sources;
	char error[CONFIG_ERROR_MAX];
	struct config fresh;

	service_reloading();
	if (config_load(&fresh, sources->file, sources->overrides, sources->override_count, error,
	                sizeof error) != 0) {
		diag(DIAG_ERROR, "reload: %s; nothing has changed", error);
	} else {
		if (apply(server, &fresh, error, sizeof error) != 0)
			diag(DIAG_ERROR, "reload: %s; nothing has changed", error);
		else
			diag(DIAG_NOTICE, "reload: done");
		config_free(&fresh);
	}
	service_reloaded(server->service);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
	struct server *server = context;
	(void)what;

	if (number == SIGHUP && server->phase == PHASE_RUNNING)
		reload(server);
	else if (number == SIGHUP)
		diag(DIAG_NOTICE, "SIGHUP: stopping already: the configuration is not read again");
	else if (server->phase == PHASE_RUNNING)
		begin_end(server, number == SIGTERM ? "SIGTERM" : "SIGINT");
	else
		enter_phase(server, PHASE_ENDING);
}

static int make_events(struct server *server)
{
	static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};

	server->base = loop_new(false);
	if (server->base == NULL)
		return -errno;
	server->report_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->report_fd < 0)
		return -errno;
	for (size_t i = 0; i < 3; i++) {
		server->signals[i] = evsignal_new(server->base, numbers[i], on_signal, server);
		if (server->signals[i] == NULL || event_add(server->signals[i], NULL) != 0)
			return -ENOMEM;
	}
	server->report_event =
		event_new(server->base, server->report_fd, EV_READ | EV_PERSIST, on_report, server);
	server->drain_event = evtimer_new(server->base, on_drain_timeout, server);
	if (server->report_event == NULL || server->drain_event == NULL ||
	    event_add(server->report_event, NULL) != 0)
		return -ENOMEM;
	return 0;
}

/* ---- start ---- */

/* 0; or a negative errno, and why has been said. */
static int make_log(struct server *server)
{
	const struct log_options options = log_options(&server->config);
	struct hub *hub = &server->hub;
	char error[LOG_ERROR_MAX];

	hub->wake = wake_new(server->worker_count);
	hub->peers = peers_new();
	if (hub->wake == NULL || hub->peers == NULL) {
		diag(DIAG_ERROR, "could not start: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	hub->log = log_open(&options, hub->wake, error, sizeof error);
	if (hub->log == NULL) {
		diag(DIAG_ERROR, "could not start: %s", error);
		return -EIO;
	}
	epoch_register(log_epoch(hub->log), &server->epoch);
	return 0;
}

static int make_workers(struct server *server)
{
	size_t n = server->worker_count;

	server->workers = calloc(n, sizeof *server->workers);
	server->counters = calloc(n + 1, sizeof *server->counters);
	if (server->workers == NULL || server->counters == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		server->workers[i] = worker_new(&server->hub, (unsigned)i);
		if (server->workers[i] == NULL)
			return -errno;
		server->counters[i] = &server->workers[i]->counters;
	}
	const struct acceptor_options options = acceptor_options(server);
	server->acceptor = acceptor_new(server->base, &server->hub, server->workers, n, &options);
	if (server->acceptor == NULL)
		return -ENOMEM;
	server->counters[n] = acceptor_counters(server->acceptor);
	server->stats = (struct stats_sources){
		.hub = &server->hub,
		.counters = server->counters,
		.counters_count = n + 1,
		.workers = n,
		.started_ms = clock_mono_ms(),
	};
	return 0;
}

static int start_workers(struct server *server)
{
	for (size_t i = 0; i < server->worker_count; i++) {
		int error = worker_start(server->workers[i]);
		if (error != 0)
			return error;
		server->running_count++;
	}
	return 0;
}

/* All that are handed over or configured. 0 or -1, and why has been said. */
static int start_listening(struct server *server, struct manager_sockets *sockets)
{
	struct listening_change change;
	char error[LISTENING_ERROR_MAX];

	if (listening_adopt(server->acceptor, sockets, error, sizeof error) != 0 ||
	    listening_prepare(&change, server->acceptor, &server->config, error, sizeof error) !=
	            0) {
		diag(DIAG_ERROR, "could not start: %s", error);
		return -1;
	}
	listening_make(&change);
	return 0;
}

/* Makes everybody who is watched come round. */
static void stir(void *context)
{
	const struct server *server = context;

	for (size_t i = 0; i < server->running_count; i++)
		worker_poke(server->workers[i]);
	log_stir(server->hub.log);
}

static struct vigil *make_vigil(const struct server *server)
{
	struct vigil *vigil = vigil_new(server->worker_count + 2);
	char name[VIGIL_NAME_MAX];

	if (vigil == NULL)
		return NULL;
	for (size_t i = 0; i < server->worker_count; i++) {
		snprintf(name, sizeof name, "worker %zu", i);
		vigil_add(vigil, name, &server->workers[i]->beat);
	}
	vigil_add(vigil, "the keeper", log_keeper_beat(server->hub.log));
	if (log_syncer_beat(server->hub.log) != NULL)
		vigil_add(vigil, "the syncer", log_syncer_beat(server->hub.log));
	return vigil;
}

/* Everything serves. */
static int start_service(struct server *server)
{
	struct service_options options = {
		.base = server->base,
		.stats = &server->stats,
		.epoch = &server->epoch,
		.vigil = make_vigil(server),
		.stir = stir,
		.context = server,
	};
	if (options.vigil != NULL)
		server->service = service_new(&options);
	if (server->service != NULL)
		return 0;
	diag(DIAG_ERROR, "could not start: %s", strerror(ENOMEM));
	return -ENOMEM;
}

struct server *server_start(struct config *config, const struct server_sources *sources,
                            struct manager_sockets *sockets)
{
	struct server *server = aligned_alloc(CACHE_LINE, sizeof *server);

	if (server == NULL) {
		diag(DIAG_ERROR, "no memory to start");
		config_free(config);
		return NULL;
	}
	memset(server, 0, sizeof *server);
	server->config = *config;
	server->sources = sources;
	server->report_fd = -1;
	server->open_files = machine_raise_open_files();
	server->worker_count = config->workers > 0 ? config->workers : machine_cpus();
	if (server->worker_count > WORKERS_MAX)
		server->worker_count = WORKERS_MAX;
	server->hub.write_info = write_info;
	server->hub.write_stats = write_stats;
	server->hub.report = report;
	server->hub.context = server;
	signal(SIGPIPE, SIG_IGN);
	loop_begin();
	set_limits(server);
	int error = make_events(server);
	service_opening();
	if (error == 0 && make_log(server) != 0) {
		server_free(server);
		return NULL;
	}
	if (error == 0)
		error = make_workers(server);
	if (error == 0)
		error = start_workers(server);
	if (error != 0) {
		diag(DIAG_ERROR, "could not start: %s", strerror(-error));
		server_free(server);
		return NULL;
	}
	if (start_listening(server, sockets) != 0 || start_service(server) != 0) {
		server_free(server);
		return NULL;
	}
	const char *dir = server->config.log_dir;
	diag(DIAG_NOTICE,
	     "version %s is ready: log %08" PRIx32 " in %s, %zu workers, at most %" PRIu64
	     " connections, %" PRIu64 " open files",
	     PSAD_VERSION, log_identity(server->hub.log), dir == NULL ? "memory" : dir,
	     server->worker_count, acceptor_options(server).max_connections, server->open_files);
	return server;
}

void server_run(struct server *server)
{
	(void)event_base_loop(server->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void server_free(struct server *server)
{
	service_closing();
	enter_phase(server, PHASE_ENDING);
	for (size_t i = 0; i < server->running_count; i++)
		worker_join(server->workers[i]);
	acceptor_free(server->acceptor);
	service_free(server->service);
	/* Before the workers: the epoch keeps pointers to their records. */
	log_close(server->hub.log);
	for (size_t i = 0; server->workers != NULL && i < server->worker_count; i++)
		worker_free(server->workers[i]);
	free(server->workers);
	free(server->counters);
	wake_free(server->hub.wake);
	peers_free(server->hub.peers);
	for (size_t i = 0; i < 3; i++)
		if (server->signals[i] != NULL)
			event_free(server->signals[i]);
	if (server->report_event != NULL)
		event_free(server->report_event);
	if (server->drain_event != NULL)
		event_free(server->drain_event);
	if (server->base != NULL)
		event_base_free(server->base);
	if (server->report_fd >= 0)
		close(server->report_fd);
	config_free(&server->config);
	free(server);
}
