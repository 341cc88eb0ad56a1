/* SPDX-License-Identifier: MIT */
#include "ops/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"

#if WITH_SYSTEMD

#include <systemd/sd-daemon.h>

/*
 * sd_notify() opens a socket for each message. When connections have used up all descriptors, one
 * kept for this is spent on it: a broker that is merely full must not be taken for dead.
 */
static int notify(const char *text)
{
	static int reserve = -1;

	if (reserve < 0)
		reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int result = sd_notify(0, text);
	if ((result != -EMFILE && result != -ENFILE) || reserve < 0)
		return result;
	close(reserve);
	result = sd_notify(0, text);
	reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return result;
}

static void __attribute__((format(printf, 1, 2))) send_message(const char *format, ...)
{
	static bool has_said;
	char text[MANAGER_STATUS_MAX + 256];
	va_list arguments;

	if (!manager_listens())
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	int result = notify(text);
	if (result < 0 && !has_said)
		diag(DIAG_WARNING, "NOTIFY_SOCKET=%s: %s: the service manager hears nothing of us",
		     getenv("NOTIFY_SOCKET"), strerror(-result));
	has_said = result < 0;
}

bool manager_listens(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	return path != NULL && path[0] != '\0';
}

uint64_t manager_watchdog_us(void)
{
	uint64_t interval_us = 0;
	return manager_listens() && sd_watchdog_enabled(0, &interval_us) > 0 ? interval_us : 0;
}

int manager_take_sockets(struct manager_sockets *out)
{
	char **names = NULL;
	*out = (struct manager_sockets){.at = NULL};

	int count = sd_listen_fds_with_names(1, &names);
	if (count < 0) {
		diag(DIAG_ERROR, "could not start: the sockets handed over (LISTEN_FDS): %s",
		     strerror(-count));
		return count;
	}
	if (count == 0)
		return 0;
	out->at = calloc((size_t)count, sizeof *out->at);
	if (out->at == NULL) {
		diag(DIAG_ERROR, "could not start: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	out->count = (size_t)count;
	for (size_t i = 0; i < out->count; i++)
		out->at[i] = (struct manager_socket){.fd = SD_LISTEN_FDS_START + (int)i,
		                                     .name = names[i]};
	free(names); /* the strings are ours now */
	return 0;
}

#else

static void __attribute__((format(printf, 1, 2))) send_message(const char *format, ...)
{
	(void)format;
}

bool manager_listens(void)
{
	return false;
}

uint64_t manager_watchdog_us(void)
{
	return 0;
}

int manager_take_sockets(struct manager_sockets *out)
{
	const char *pid = getenv("LISTEN_PID");

	*out = (struct manager_sockets){.at = NULL};
	if (pid != NULL && strtol(pid, NULL, 10) == (long)getpid() && getenv("LISTEN_FDS") != NULL)
		diag(DIAG_WARNING,
		     "sockets were handed over (LISTEN_FDS): this psad was built without libsystemd "
		     "and does not use them");
	return 0;
}

#endif

void manager_sockets_free(struct manager_sockets *sockets)
{
	for (size_t i = 0; i < sockets->count; i++) {
		if (sockets->at[i].fd >= 0)
			close(sockets->at[i].fd);
		free(sockets->at[i].name);
	}
	free(sockets->at);
	*sockets = (struct manager_sockets){.at = NULL};
}

void manager_tell(const char *status)
{
	send_message("STATUS=%s", status);
}

void manager_tell_ready(const char *status)
{
	send_message("READY=1\nSTATUS=%s", status);
}

void manager_tell_reloading(const char *status)
{
	send_message("RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=%s", clock_mono_us(), status);
}

void manager_tell_stopping(const char *status, uint64_t more_us)
{
	send_message("STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s", more_us, status);
}

void manager_tell_progress(const char *status, uint64_t more_us)
{
	send_message("EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s", more_us, status);
}

void manager_feed_watchdog(void)
{
	send_message("WATCHDOG=1");
}
