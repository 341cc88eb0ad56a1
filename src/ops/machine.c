/* SPDX-License-Identifier: MIT */
#include "ops/machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* The quota in /sys/fs/cgroup<path>/cpu.max, in CPUs rounded up; UINT32_MAX where there is none. */
static unsigned read_quota(const char *path)
{
	char name[4200];
	unsigned long long quota, period;
	unsigned cpus = UINT32_MAX;

	snprintf(name, sizeof name, "/sys/fs/cgroup%s/cpu.max", path);
	FILE *file = fopen(name, "re");
	if (file == NULL)
		return cpus;
	/* "max 100000" does not scan, and means none. */
	if (fscanf(file, "%llu %llu", &quota, &period) == 2 && period > 0)
		cpus = (unsigned)((quota + period - 1) / period);
	fclose(file);
	return cpus;
}

/* The smallest quota on the way from our control group up to the root. */
static unsigned quota_cpus(void)
{
	char line[4096];
	unsigned least = UINT32_MAX;
	FILE *file = fopen("/proc/self/cgroup", "re");

	if (file == NULL)
		return least;
	while (fgets(line, sizeof line, file) != NULL) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		char *path = line + 3;
		path[strcspn(path, "\n")] = '\0';
		for (;;) {
			unsigned cpus = read_quota(path);
			least = cpus < least ? cpus : least;
			char *slash = strrchr(path, '/');
			if (slash == NULL)
				break;
			*slash = '\0';
		}
	}
	fclose(file);
	return least;
}

unsigned machine_cpus(void)
{
	cpu_set_t set;
	unsigned quota = quota_cpus();
	unsigned cpus = 1;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		cpus = (unsigned)CPU_COUNT(&set);
	if (quota < cpus)
		cpus = quota;
	return cpus == 0 ? 1 : cpus;
}

uint64_t machine_raise_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	return limit.rlim_cur;
}
