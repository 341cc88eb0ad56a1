/* SPDX-License-Identifier: MIT */
/*
 * psad: the command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/diag.h"
#include "log/dump.h"
#include "log/log.h"
#include "log/repair.h"
#include "ops/manager.h"
#include "server.h"
#include "wire/pattern.h"

enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_DAMAGED = 1, EXIT_START = 2, OVERRIDES_MAX = 256 };

static const char usage[] =
	"usage: psad [-c FILE] [-o SECTION.KEY=VALUE]... [-t]\n"
	"       psad --dump DIR [PATTERN]... | --repair DIR | --new-log-id DIR | -V | -h\n"
	"\n"
	"A publish/subscribe broker. Without options it keeps its log in memory and listens on\n"
	"127.0.0.1:9853 and [::1]:9853.\n"
	"\n"
	"  -c FILE               read the configuration from FILE\n"
	"  -o SECTION.KEY=VALUE  set one key, over the file's; may be repeated\n"
	"  -t                    check the configuration and exit\n"
	"  -V                    print the version and the libraries' versions\n"
	"  -h                    print this\n"
	"\n"
	"With the directory of a log (log.dir) instead of a broker:\n"
	"\n"
	"  --dump DIR            list its messages, or those that match a PATTERN, and what is\n"
	"                        damaged; also while psad is running\n"
	"  --repair DIR          when psad refuses it: keep what is good, make gaps of the rest\n"
	"  --new-log-id DIR      for a copy that goes its own way: make positions of the old\n"
	"                        log foreign to it\n"
	"\n"
	"Try it:  printf 'PUB news hello\\nQUIT\\n' | nc localhost 9853\n";

static void print_version(void)
{
	printf("psad %s\nbuilt with %s\nruns with libevent %s, %s\n", PSAD_VERSION, PSAD_LIBRARIES,
	       event_get_version(), topic_hash_library());
}

enum tool { TOOL_NONE, TOOL_DUMP, TOOL_REPAIR, TOOL_NEW_LOG_ID };

struct arguments {
	const char *file;
	const char *overrides[OVERRIDES_MAX];
	size_t override_count;
	bool only_checks;
	enum tool tool;
	const char *dir;
	char *const *patterns; /* of TOOL_DUMP; NULL behind the last one */
};

static int misused(const char *what)
{
	fprintf(stderr, "psad: %s\n%s", what, usage);
	return EXIT_USAGE;
}

/* What can't be said together. -1: all of it can. */
static int check_arguments(struct arguments *arguments, int argc, char **argv)
{
	if (arguments->tool != TOOL_NONE &&
	    (arguments->file != NULL || arguments->override_count > 0 || arguments->only_checks))
		return misused("-c, -o and -t are of no use with the directory of a log");
	arguments->patterns = argv + optind;
	if (arguments->tool == TOOL_DUMP)
		return -1;
	if (optind < argc) {
		fprintf(stderr, "psad: unexpected argument: %s\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	return -1;
}

/* -1: go on; else exit with this status. */
static int parse_arguments(struct arguments *arguments, int argc, char **argv)
{
	static const struct option tools[] = {
		{"dump", required_argument, NULL, TOOL_DUMP},
		{"repair", required_argument, NULL, TOOL_REPAIR},
		{"new-log-id", required_argument, NULL, TOOL_NEW_LOG_ID},
		{NULL, 0, NULL, 0},
	};
	int option;
	while ((option = getopt_long(argc, argv, "c:o:tVh", tools, NULL)) != -1) {
		switch (option) {
		case 'c':
			arguments->file = optarg;
			break;
		case 'o':
			if (arguments->override_count == OVERRIDES_MAX) {
				fprintf(stderr, "psad: more than %d -o\n", OVERRIDES_MAX);
				return EXIT_USAGE;
			}
			arguments->overrides[arguments->override_count++] = optarg;
			break;
		case 't':
			arguments->only_checks = true;
			break;
		case TOOL_DUMP:
		case TOOL_REPAIR:
		case TOOL_NEW_LOG_ID:
			if (arguments->tool != TOOL_NONE)
				return misused(
					"one of --dump, --repair and --new-log-id at a time");
			arguments->tool = (enum tool)option;
			arguments->dir = optarg;
			break;
		case 'V':
			print_version();
			return EXIT_OK;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	return check_arguments(arguments, argc, argv);
}

/* ---- tools ---- */

static bool is_selected(const char *topic, size_t size, void *context)
{
	char *const *patterns = context;

	for (size_t i = 0; patterns[i] != NULL; i++) {
		const struct slice pattern = {.at = patterns[i], .n = strlen(patterns[i])};
		if (pattern_matches(pattern, (struct slice){.at = topic, .n = size}))
			return true;
	}
	return false;
}

static int dump(const struct arguments *arguments)
{
	char *const *patterns = arguments->patterns;
	struct dump_filter filter = {.context = (void *)(uintptr_t)patterns};
	char error[LOG_ERROR_MAX];

	for (size_t i = 0; patterns[i] != NULL; i++) {
		const struct slice pattern = {.at = patterns[i], .n = strlen(patterns[i])};
		const char *fault = pattern_check(pattern);
		if (fault != NULL) {
			fprintf(stderr, "psad: %s: %s\n", patterns[i], fault);
			return EXIT_USAGE;
		}
		filter.selects = is_selected;
	}
	switch (log_dump(arguments->dir, &filter, stdout, error, sizeof error)) {
	case DUMP_WHOLE:
	case DUMP_CUT:
		break;
	case DUMP_DAMAGED:
		return EXIT_DAMAGED;
	case DUMP_FAILED:
		diag(DIAG_ERROR, "%s", error);
		return EXIT_START;
	}
	return EXIT_OK;
}

static int run_tool(const struct arguments *arguments)
{
	char error[LOG_ERROR_MAX];
	int result = 0;

	switch (arguments->tool) {
	case TOOL_NONE:
		break;
	case TOOL_DUMP:
		return dump(arguments);
	case TOOL_REPAIR:
		result = log_repair(arguments->dir, stdout, error, sizeof error);
		break;
	case TOOL_NEW_LOG_ID:
		result = log_renew_identity(arguments->dir, stdout, error, sizeof error);
		break;
	}
	if (result != 0)
		diag(DIAG_ERROR, "%s", error);
	return result == 0 ? EXIT_OK : EXIT_START;
}

/*
 * Whoever starts us with standard error closed would have the diagnostics written into whatever
 * is opened next: an event loop's pipe, a client's socket, a file of the log.
 */
static int fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	return 0;
}

/* Takes over *config. */
static int serve(struct config *config, const struct server_sources *sources,
                 struct manager_sockets *sockets)
{
	if (sockets->count == 0 && !config_listens(config)) {
		diag(DIAG_ERROR,
		     "listen.tcp and listen.unix are both empty: there is nothing to listen on");
		config_free(config);
		return EXIT_USAGE;
	}
	struct server *server = server_start(config, sources, sockets);
	if (server == NULL)
		return EXIT_START;
	server_run(server);
	server_free(server);
	diag(DIAG_NOTICE, "stopped");
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.file = NULL};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	if (fill_standard_descriptors() != 0)
		return EXIT_START; /* and there may be nobody to tell */
	int status = parse_arguments(&arguments, argc, argv);
	if (status >= 0)
		return status;
	diag_open(DIAG_INFO);
	if (arguments.tool != TOOL_NONE)
		return run_tool(&arguments);
	if (config_load(&config, arguments.file, arguments.overrides, arguments.override_count,
	                error, sizeof error) != 0) {
		diag(DIAG_ERROR, "%s", error);
		return EXIT_USAGE;
	}
	if (arguments.only_checks) {
		diag(DIAG_INFO, "the configuration is good%s",
		     config_listens(&config) ? "" : "; it needs sockets that are handed over");
		config_free(&config);
		return EXIT_OK;
	}
	diag_set_level(config.log_level);
	const struct server_sources sources = {
		.file = arguments.file,
		.overrides = arguments.overrides,
		.override_count = arguments.override_count,
	};
	struct manager_sockets sockets;
	if (manager_take_sockets(&sockets) != 0) {
		config_free(&config);
		return EXIT_START;
	}
	status = serve(&config, &sources, &sockets);
	manager_sockets_free(&sockets);
	return status;
}
