/* SPDX-License-Identifier: MIT */
#include "net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/diag.h"

enum { EXIT_START = 2, LIBEVENT_ABORTS = (int)0xdeaddead };

static void say(int severity, const char *text)
{
	const enum diag_level level = severity == EVENT_LOG_ERR    ? DIAG_ERROR
	                              : severity == EVENT_LOG_WARN ? DIAG_WARNING
	                                                           : DIAG_DEBUG;
	diag(level, "libevent: %s", text);
}

static void die(int status)
{
	if (status == LIBEVENT_ABORTS) /* an assertion of its own */
		abort();
	diag(DIAG_ERROR, "libevent can't go on");
	_exit(EXIT_START);
}

void loop_begin(void)
{
	event_set_log_callback(say);
	event_set_fatal_callback(die);
}

struct event_base *loop_new(bool is_private)
{
	struct event_base *base = NULL;

	errno = ENOMEM;
	struct event_config *config = event_config_new();
	if (config == NULL)
		return NULL;
	if (event_config_require_features(config, EV_FEATURE_ET) == 0 &&
	    (!is_private || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0))
		base = event_base_new_with_config(config);
	int error = errno;
	event_config_free(config);
	errno = error;
	return base;
}
