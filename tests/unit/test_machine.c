/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=fopen -Wl,--wrap=fopen64 -Wl,--wrap=sched_getaffinity */
/*
 * How many CPUs psad takes itself to have, with control groups that are made up; and open files.
 */
#include "ops/machine.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

struct file {
	const char *name, *text;
};

struct row {
	unsigned affinity;
	struct file files[5];
	unsigned cpus;
};

static const struct row *row; /* NULL: the true machine */

FILE *__real_fopen(const char *name, const char *mode);
FILE *__wrap_fopen(const char *name, const char *mode);
FILE *__wrap_fopen64(const char *name, const char *mode);
int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

FILE *__wrap_fopen(const char *name, const char *mode)
{
	if (row == NULL)
		return __real_fopen(name, mode);
	for (size_t i = 0; i < sizeof row->files / sizeof row->files[0]; i++)
		if (row->files[i].name != NULL && strcmp(row->files[i].name, name) == 0)
			return fmemopen((void *)(uintptr_t)row->files[i].text,
			                strlen(row->files[i].text), "r");
	errno = ENOENT;
	return NULL;
}

FILE *__wrap_fopen64(const char *name, const char *mode)
{
	return __wrap_fopen(name, mode);
}

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	if (row == NULL)
		return __real_sched_getaffinity(pid, size, set);
	if (row->affinity == 0) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO_S(size, set);
	for (unsigned i = 0; i < row->affinity; i++)
		CPU_SET_S(2 * i, size, set);
	return 0;
}

#define SELF "/proc/self/cgroup"
#define MAX(path) "/sys/fs/cgroup" path "/cpu.max"

static void the_smallest_of_affinity_and_quotas_counts(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{8, {{NULL, NULL}}, 8},
		{0, {{NULL, NULL}}, 1}, /* more CPUs than cpu_set_t has room for, or worse */
		{8, {{SELF, "0::/\n"}}, 8},
		{8, {{SELF, "0::/\n"}, {MAX(""), "200000 100000\n"}}, 2},
		{8, {{SELF, "0::/\n"}, {MAX("/"), "200000 100000\n"}}, 2},
		{8, {{SELF, "0::/a\n"}, {MAX("/a"), "max 100000\n"}}, 8},
		{8, {{SELF, "0::/a\n"}, {MAX("/a"), "150000 100000\n"}}, 2}, /* rounded up */
		{8, {{SELF, "0::/a\n"}, {MAX("/a"), "1000 100000\n"}}, 1},
		{2, {{SELF, "0::/a\n"}, {MAX("/a"), "400000 100000\n"}}, 2},
		{8, {{SELF, "0::/a\n"}, {MAX("/a"), "400000 0\n"}}, 8},
		{8, {{SELF, "0::/a\n"}, {MAX("/a"), "nonsense\n"}}, 8},
		{8,
	         {{SELF, "0::/a/b c/d\n"},
	          {MAX("/a/b c/d"), "max 100000\n"},
	          {MAX("/a/b c"), "500000 100000\n"},
	          {MAX("/a"), "300000 100000\n"},
	          {MAX(""), "max 100000\n"}},
	         3},
		{8,
	         {{SELF, "12:cpu:/old\n1:name=systemd:/x\n0::/a\n"},
	          {MAX("/old"), "100000 100000\n"},
	          {MAX("/a"), "400000 100000\n"}},
	         4},
		{8, {{SELF, "12:cpu:/old\n"}, {MAX("/old"), "100000 100000\n"}}, 8},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		row = &rows[i];
		unsigned cpus = machine_cpus();
		row = NULL;
		if (cpus != rows[i].cpus)
			fail_msg("row %zu: %u CPUs", i, cpus);
	}
}

static void of_the_true_machine_there_is_at_least_one_cpu(void **state)
{
	(void)state;
	assert_true(machine_cpus() >= 1);
}

static void open_files_are_raised_to_what_is_allowed(void **state)
{
	(void)state;
	struct rlimit before, lowered, after;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	lowered = (struct rlimit){.rlim_cur = 64, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lowered), 0);
	assert_true(machine_raise_open_files() == before.rlim_max);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_true(after.rlim_cur == before.rlim_max);
	assert_true(machine_raise_open_files() == before.rlim_max); /* nothing left to be raised */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_smallest_of_affinity_and_quotas_counts),
		cmocka_unit_test(of_the_true_machine_there_is_at_least_one_cpu),
		cmocka_unit_test(open_files_are_raised_to_what_is_allowed),
	};
	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
