/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int open_file(int pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

/* Reads it whole, NUL-terminated; 0 or -errno. */
static int read_file(int pid, const char *name, char *at, size_t size)
{
	int fd = open_file(pid, name, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, at, size - 1);
	int error = n < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	at[n < 0 ? 0 : n] = '\0';
	return error;
}

void process_reset_peak(int pid)
{
	int fd = pid > 0 ? open_file(pid, "clear_refs", O_WRONLY) : -1;

	if (fd >= 0 && write(fd, "5", 1) < 0)
		perror("load: clear_refs");
	if (fd >= 0)
		close(fd);
}

static uint64_t status_bytes(const char *status, const char *key)
{
	const char *line = strstr(status, key);

	return line == NULL ? 0 : strtoull(line + strlen(key), NULL, 10) * 1024;
}

int process_usage(int pid, struct usage *usage)
{
	char text[4096];
	clockid_t clock;
	struct timespec cpu;
	unsigned long user, system;
	double ticks = (double)sysconf(_SC_CLK_TCK);

	*usage = (struct usage){0};
	if (pid == 0)
		return 0;
	int error = clock_getcpuclockid(pid, &clock);
	if (error != 0 || clock_gettime(clock, &cpu) != 0)
		return error != 0 ? -error : -errno;
	usage->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	if ((error = read_file(pid, "stat", text, sizeof text)) != 0)
		return error;
	/* The name may hold anything; what follows its last ')' are words, user time the 12th. */
	const char *words = strrchr(text, ')');
	if (words == NULL ||
	    sscanf(words + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user,
	           &system) != 2)
		return -EINVAL;
	usage->user_s = (double)user / ticks;
	usage->system_s = (double)system / ticks;
	if ((error = read_file(pid, "status", text, sizeof text)) != 0)
		return error;
	usage->rss = status_bytes(text, "VmRSS:");
	usage->rss_peak = status_bytes(text, "VmHWM:");
	return 0;
}
