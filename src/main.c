/* SPDX-License-Identifier: MIT */
/*
 * psad: the command line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/diag.h"
#include "server.h"
#include "wire/topic.h"

enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_START = 2, OVERRIDES_MAX = 256 };

static const char usage[] =
	"usage: psad [-c FILE] [-o SECTION.KEY=VALUE]... [-t] [-V] [-h]\n"
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
	"Try it:  printf 'PUB news hello\\nQUIT\\n' | nc localhost 9853\n";

static void print_version(void)
{
	printf("psad %s\nbuilt with %s\nruns with libevent %s, %s\n", PSAD_VERSION, PSAD_LIBRARIES,
	       event_get_version(), topic_hash_library());
}

struct arguments {
	const char *file;
	const char *overrides[OVERRIDES_MAX];
	size_t override_count;
	bool only_checks;
};

/* -1: go on; else exit with this status. */
static int parse_arguments(struct arguments *arguments, int argc, char **argv)
{
	int option;
	while ((option = getopt(argc, argv, "c:o:tVh")) != -1) {
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
	if (optind < argc) {
		fprintf(stderr, "psad: unexpected argument: %s\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.file = NULL};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	int status = parse_arguments(&arguments, argc, argv);
	if (status >= 0)
		return status;
	diag_open(DIAG_INFO);
	if (config_load(&config, arguments.file, arguments.overrides, arguments.override_count,
	                error, sizeof error) != 0) {
		diag(DIAG_ERROR, "%s", error);
		return EXIT_USAGE;
	}
	if (arguments.only_checks) {
		diag(DIAG_INFO, "the configuration is good");
		config_free(&config);
		return EXIT_OK;
	}
	diag_set_level(config.log_level);
	const struct server_sources sources = {
		.file = arguments.file,
		.overrides = arguments.overrides,
		.override_count = arguments.override_count,
	};
	struct server *server = server_start(&config, &sources);
	if (server == NULL)
		return EXIT_START;
	server_run(server);
	server_free(server);
	return EXIT_OK;
}
