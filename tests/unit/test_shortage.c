/* SPDX-License-Identifier: MIT */
/* LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=strdup,--wrap=open,--wrap=openat,--wrap=read,--wrap=pread,--wrap=write,--wrap=pwrite,--wrap=fstat,--wrap=fstatat,--wrap=fopen,--wrap=fdopendir,--wrap=readdir,--wrap=mmap,--wrap=mprotect,--wrap=madvise,--wrap=posix_fallocate,--wrap=ftruncate,--wrap=fdatasync,--wrap=fsync,--wrap=renameat,--wrap=linkat,--wrap=unlinkat,--wrap=mkdir,--wrap=eventfd,--wrap=fcntl,--wrap=fstatfs,--wrap=fault_watch,--wrap=pthread_create,--wrap=getrandom */
/*
 * Whatever a log calls may fail: each kind of call at its n-th time, n = 1, 2 and so on until a
 * whole run makes fewer, in the life of a log, in repairing one and in dumping one.
 *
 * The oracle: what can't be done says so in a sentence; nothing that was acknowledged is missing
 * when the log is opened again without faults, nothing else is there, and no descriptor is left
 * open. (Memory that is left is LeakSanitizer's to find, and valgrind's.)
 */
#include "durable.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statfs.h>

#include "log/dump.h"
#include "log/fault.h"
#include "log/repair.h"

/* ---- calls that fail ---- */

enum call {
	CALL_MALLOC,
	CALL_CALLOC,
	CALL_REALLOC,
	CALL_ALIGNED_ALLOC,
	CALL_STRDUP,
	CALL_OPEN,
	CALL_OPENAT,
	CALL_READ,
	CALL_PREAD,
	CALL_WRITE,
	CALL_PWRITE,
	CALL_FSTAT,
	CALL_FSTATAT,
	CALL_FOPEN,
	CALL_FDOPENDIR,
	CALL_READDIR,
	CALL_MMAP,
	CALL_MPROTECT,
	CALL_MADVISE,
	CALL_FALLOCATE,
	CALL_FTRUNCATE,
	CALL_FDATASYNC,
	CALL_FSYNC,
	CALL_RENAMEAT,
	CALL_LINKAT,
	CALL_UNLINKAT,
	CALL_MKDIR,
	CALL_EVENTFD,
	CALL_THREAD,
	CALL_GETRANDOM,
	CALL_FCNTL,
	CALL_FSTATFS,
	CALL_FAULT_WATCH, /* it has a table of its own, which may be full */
};

enum { CUT = -1 }; /* in the place of an errno: it succeeds, but does half of it */

/* What fails, and how. The log's threads count too, so `made` is shared. */
static const struct shortage {
	enum call call;
	int error;
	const char *name;
} shortages[] = {
	{CALL_MALLOC, ENOMEM, "malloc"},
	{CALL_CALLOC, ENOMEM, "calloc"},
	{CALL_REALLOC, ENOMEM, "realloc"},
	{CALL_ALIGNED_ALLOC, ENOMEM, "aligned_alloc"},
	{CALL_STRDUP, ENOMEM, "strdup"},
	{CALL_OPEN, EMFILE, "open"},
	{CALL_OPENAT, EMFILE, "openat"},
	{CALL_OPENAT, ENOENT, "openat, gone"},
	{CALL_READ, EIO, "read"},
	{CALL_PREAD, EIO, "pread"},
	{CALL_PREAD, CUT, "pread, cut"},
	{CALL_WRITE, ENOSPC, "write"},
	{CALL_WRITE, EDQUOT, "write, quota"},
	{CALL_WRITE, CUT, "write, cut"},
	{CALL_PWRITE, EIO, "pwrite"},
	{CALL_PWRITE, CUT, "pwrite, cut"},
	{CALL_FSTAT, EIO, "fstat"},
	{CALL_FSTATAT, EIO, "fstatat"},
	{CALL_FOPEN, EMFILE, "fopen"},
	{CALL_FOPEN, CUT, "fopen, empty"},
	{CALL_FDOPENDIR, ENOMEM, "fdopendir"},
	{CALL_READDIR, EIO, "readdir"},
	{CALL_MMAP, ENOMEM, "mmap"},
	{CALL_MPROTECT, ENOMEM, "mprotect"},
	{CALL_MADVISE, EINVAL, "madvise, not known"},
	{CALL_MADVISE, ENOMEM, "madvise"},
	{CALL_FALLOCATE, ENOSPC, "posix_fallocate, full"},
	{CALL_FALLOCATE, EDQUOT, "posix_fallocate, quota"},
	{CALL_FALLOCATE, EIO, "posix_fallocate"},
	{CALL_FTRUNCATE, EIO, "ftruncate"},
	{CALL_FDATASYNC, EIO, "fdatasync"},
	{CALL_FSYNC, EIO, "fsync"},
	{CALL_RENAMEAT, EIO, "renameat"},
	{CALL_LINKAT, EPERM, "linkat, not known"},
	{CALL_LINKAT, EIO, "linkat"},
	{CALL_UNLINKAT, EIO, "unlinkat"},
	{CALL_MKDIR, ENOSPC, "mkdir"},
	{CALL_EVENTFD, EMFILE, "eventfd"},
	{CALL_THREAD, EAGAIN, "pthread_create"},
	{CALL_GETRANDOM, EAGAIN, "getrandom"},
	{CALL_FCNTL, EACCES, "fcntl, locked"},
	{CALL_FCNTL, ENOLCK, "fcntl"},
	{CALL_FSTATFS, EIO, "fstatfs"},
	{CALL_FAULT_WATCH, ENOMEM, "fault_watch"},
};

enum { SHORTAGES = sizeof shortages / sizeof shortages[0] };

static const struct shortage *armed; /* set while no thread of the log runs */
static uint64_t fails_at, made;

/* 0, or what is to go wrong with this call. */
static int fault_of(enum call call)
{
	if (armed == NULL || armed->call != call || atomic64_add(&made, 1) + 1 != fails_at)
		return 0;
	if (armed->error != CUT)
		errno = armed->error;
	return armed->error;
}

static bool has_fired(void)
{
	return atomic64_load_acquire(&made) >= fails_at;
}

#define WRAP(call, type, name, parameters, arguments, failed)                                      \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return fault_of(call) != 0 ? (failed) : __real_##name arguments;                   \
	}

/* Those that can also be cut short: n bytes become fewer. */
#define WRAP_CUT(call, name, parameters, arguments, n)                                             \
	ssize_t __real_##name parameters;                                                          \
	ssize_t __wrap_##name parameters;                                                          \
	ssize_t __wrap_##name parameters                                                           \
	{                                                                                          \
		int fault = fault_of(call);                                                        \
		if (fault == CUT)                                                                  \
			(n) /= 2;                                                                  \
		return fault > 0 ? -1 : __real_##name arguments;                                   \
	}

static bool has_no_links; /* as a file system without them does it */

int __real_linkat(int d, const char *a, int e, const char *b, int f);
int __wrap_linkat(int d, const char *a, int e, const char *b, int f);
int __wrap_linkat(int d, const char *a, int e, const char *b, int f)
{
	if (fault_of(CALL_LINKAT) != 0)
		return -1;
	if (!has_no_links)
		return __real_linkat(d, a, e, b, f);
	errno = faccessat(e, b, F_OK, 0) == 0 ? EEXIST : EPERM;
	return -1;
}

/* What is read in so few bytes that there is no half of it: nothing stands there. */
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
	int fault = fault_of(CALL_FOPEN);
	return fault > 0 ? NULL : __real_fopen(fault == CUT ? "/dev/null" : path, mode);
}

WRAP(CALL_MALLOC, void *, malloc, (size_t n), (n), NULL)
WRAP(CALL_CALLOC, void *, calloc, (size_t n, size_t m), (n, m), NULL)
WRAP(CALL_REALLOC, void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(CALL_ALIGNED_ALLOC, void *, aligned_alloc, (size_t a, size_t n), (a, n), NULL)
WRAP(CALL_STRDUP, char *, strdup, (const char *s), (s), NULL)
WRAP(CALL_OPEN, int, open, (const char *p, int f, mode_t m), (p, f, m), -1)
WRAP(CALL_OPENAT, int, openat, (int d, const char *p, int f, mode_t m), (d, p, f, m), -1)
WRAP_CUT(CALL_READ, read, (int f, void *p, size_t n), (f, p, n), n)
WRAP_CUT(CALL_PREAD, pread, (int f, void *p, size_t n, off_t o), (f, p, n, o), n)
WRAP_CUT(CALL_WRITE, write, (int f, const void *p, size_t n), (f, p, n), n)
WRAP_CUT(CALL_PWRITE, pwrite, (int f, const void *p, size_t n, off_t o), (f, p, n, o), n)
WRAP(CALL_FSTAT, int, fstat, (int f, struct stat *s), (f, s), -1)
WRAP(CALL_FSTATAT, int, fstatat, (int d, const char *p, struct stat *s, int f), (d, p, s, f), -1)
WRAP(CALL_FDOPENDIR, DIR *, fdopendir, (int f), (f), NULL)
WRAP(CALL_READDIR, struct dirent *, readdir, (DIR * d), (d), NULL)
WRAP(CALL_MMAP, void *, mmap, (void *a, size_t n, int p, int f, int fd, off_t o),
     (a, n, p, f, fd, o), MAP_FAILED)
WRAP(CALL_MPROTECT, int, mprotect, (void *a, size_t n, int p), (a, n, p), -1)
WRAP(CALL_MADVISE, int, madvise, (void *a, size_t n, int w), (a, n, w), -1)
WRAP(CALL_FALLOCATE, int, posix_fallocate, (int f, off_t o, off_t n), (f, o, n), armed->error)
WRAP(CALL_FTRUNCATE, int, ftruncate, (int f, off_t n), (f, n), -1)
WRAP(CALL_FDATASYNC, int, fdatasync, (int f), (f), -1)
WRAP(CALL_FSYNC, int, fsync, (int f), (f), -1)
WRAP(CALL_RENAMEAT, int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), -1)
WRAP(CALL_UNLINKAT, int, unlinkat, (int d, const char *p, int f), (d, p, f), -1)
WRAP(CALL_MKDIR, int, mkdir, (const char *p, mode_t m), (p, m), -1)
WRAP(CALL_EVENTFD, int, eventfd, (unsigned n, int f), (n, f), -1)
WRAP(CALL_THREAD, int, pthread_create,
     (pthread_t * t, const pthread_attr_t *a, void *(*r)(void *), void *c), (t, a, r, c),
     armed->error)
WRAP(CALL_FCNTL, int, fcntl, (int f, int c, void *p), (f, c, p), -1)
WRAP(CALL_FSTATFS, int, fstatfs, (int f, struct statfs *s), (f, s), -1)
WRAP(CALL_FAULT_WATCH, int, fault_watch, (char *m, size_t n, uint32_t *k), (m, n, k), -ENOMEM)
WRAP(CALL_GETRANDOM, ssize_t, getrandom, (void *p, size_t n, unsigned f), (p, n, f), -1)

/* ---- logs to begin with ---- */

static struct world w;
static char map[IDS_MAX + 1], expected[IDS_MAX + 1];

enum { MESSAGES = 1200, FILES_MAX = 16 };

/* A directory's files, to be put back before each try. */
static struct template
{
	size_t count;
	struct {
		char name[64];
		char *data;
		size_t size;
	} files[FILES_MAX];
}
template;

static void forget_template(void)
{
	while (template.count > 0)
		free(template.files[--template.count].data);
}

static void take_template(void)
{
	char path[512];
	DIR *dir = opendir(w.dir);

	forget_template();
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct stat status;
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock") == 0)
			continue;
		assert_true(template.count < FILES_MAX);
		size_t i = template.count++;
		snprintf(template.files[i].name, 64, "%.63s", entry->d_name);
		path_of(&w, entry->d_name, path);
		int fd = open(path, O_RDONLY | O_CLOEXEC, 0);
		assert_int_equal(fstat(fd, &status), 0);
		template.files[i].size = (size_t)status.st_size;
		template.files[i].data = malloc((size_t)status.st_size + 1);
		assert_int_equal(read(fd, template.files[i].data, (size_t)status.st_size),
		                 status.st_size);
		close(fd);
	}
	closedir(dir);
}

static void put_template(void)
{
	char path[512];

	(void)count_files(&w, "", true);
	for (size_t i = 0; i < template.count; i++) {
		path_of(&w, template.files[i].name, path);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, template.files[i].data, template.files[i].size),
		                 (ssize_t) template.files[i].size);
		close(fd);
	}
}

static void append_some(struct world *world)
{
	append_many(world, MESSAGES);
	while (world_synced(world) < MESSAGES)
		(void)poll(NULL, 0, 1);
	wait_for_spares(world, 5); /* which some are damaged of */
}

static void begin_new(void)
{
}

static void begin_closed(void)
{
	open_log(&w);
	append_some(&w);
	close_log(&w);
}

static void begin_killed(void)
{
	crash(&w, append_some);
}

static void begin_powerless(void)
{
	crash(&w, append_some);
	change_boot(&w);
}

/* Claims that never came, in a log whose process died. */
static void claim_and_die(struct world *world)
{
	append_some(world);
	claim_in_vain(world, 5);
}

static void begin_with_holes(void)
{
	crash(&w, claim_and_die);
}

static void begin_damaged(void)
{
	char path[512];
	crash(&w, append_some);
	assert_true(count_segments(&w) >= 5);
	flip(&w, 1, slot_at(5), 7);
	flip(&w, 1, 4096 + 8192 + 100, 3);
	wipe(&w, 2, 0, 4096);
	segment_path(&w, 3, path);
	assert_int_equal(unlink(path), 0);
}

static void begin_without_log(void)
{
	char path[512];
	begin_damaged();
	path_of(&w, "log", path);
	assert_int_equal(unlink(path), 0);
}

/* Damage of another kind, in a log that was closed. */
static void begin_damaged_and_closed(void)
{
	begin_closed();
	assert_true(count_segments(&w) >= 5);
	flip(&w, 2, 4096 + 8192 + 500, 1);
	flip(&w, 2, (off_t)offsetof(struct segment_header, seal) + 2, 1);
	flip(&w, 3, (off_t)offsetof(struct segment_header, gap) + 2, 1);
	wipe(&w, 1, 0, SMALL);
	wipe(&w, 4, SMALL - 4096, 4096);
}

/* All at once, and the machine died. */
static void begin_damaged_and_powerless(void)
{
	char path[512];
	begin_powerless();
	flip(&w, 1, slot_at(0), 7);
	wipe(&w, 2, 4096, 8192);
	flip(&w, 4, slot_at(3) + 9, 2);
	segment_path(&w, 3, path);
	assert_int_equal(truncate(path, SMALL - 4096), 0);
}

static int begin(void **state)
{
	(void)state;
	armed = NULL;
	has_no_links = false;
	world_begin(&w, "/dev/shm");
	return 0;
}

static int end(void **state)
{
	(void)state;
	armed = NULL;
	forget_template();
	world_end(&w);
	return 0;
}

/* ---- trying it again and again ---- */

static size_t count_descriptors(void)
{
	size_t count = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* What a run does while something fails; `check` looks at what came of it, without faults. */
struct run {
	void (*act)(void);
	void (*check)(void);
};

static bool is_refused;    /* what the run asked for, in so many words */
static bool is_of_reading; /* the fault: a repair does without what can't be read */

/* All n while they are few, then with growing steps. */
static uint64_t next_try(uint64_t n)
{
	return n + 1 + n / (stride() > 1 ? 3 : 12);
}

static void try_each(const struct run *run)
{
	for (size_t i = 0; i < SHORTAGES; i++) {
		bool has_failed = true;
		is_of_reading = shortages[i].call == CALL_PREAD || shortages[i].call == CALL_READ ||
		                shortages[i].error == ENOENT;
		for (uint64_t n = 1; has_failed; n = next_try(n)) {
			put_template();
			size_t descriptors = count_descriptors();
			is_refused = false;
			w.error[0] = '\0';
			made = 0;
			fails_at = n;
			armed = &shortages[i];
			run->act();
			armed = NULL;
			has_failed = has_fired();
			if (count_descriptors() != descriptors)
				fail_msg("%s, call %" PRIu64 ": a descriptor is left open",
				         shortages[i].name, n);
			if (is_refused && w.error[0] == '\0')
				fail_msg("%s, call %" PRIu64 ": nothing says why",
				         shortages[i].name, n);
			if (is_refused && !has_failed)
				fail_msg("refused without a fault: %s", w.error);
			run->check();
		}
	}
}

/* ---- the life of a log ---- */

static uint64_t acknowledged; /* the newest id; of those before it all were */

static void live(void)
{
	const struct shortage *shortage = armed;

	acknowledged = 0;
	w.options.sync = fails_at % 2 == 0 ? LOG_SYNC_ALWAYS : LOG_SYNC_INTERVAL;
	armed = NULL; /* the wake is not the log's */
	w.wake = wake_new(1);
	armed = shortage;
	w.log = log_open(&w.options, w.wake, w.error, sizeof w.error);
	is_refused = w.log == NULL;
	if (is_refused) {
		wake_free(w.wake);
		return;
	}
	memset(&w.me, 0, sizeof w.me);
	epoch_register(log_epoch(w.log), &w.me);
	for (unsigned i = 0; i < MESSAGES; i++) {
		uint64_t id = world_committed(&w) + 1;
		/* Full is enough: another file is tried for each second, and not waited for. */
		if (append_one(&w) != LOG_APPENDED)
			break;
		acknowledged = id;
	}
	(void)find_time(&w, 1);
	/* What has been stored is read, which maps it and verifies it. */
	struct block block;
	epoch_enter(&w.me);
	for (uint64_t id = log_first(w.log), head = log_head(w.log); id <= head;) {
		enum block_verdict verdict = look(&w, id, head, false, &block);
		id = verdict == BLOCK_HERE ? block.first + block.count : block.last + 1;
	}
	epoch_leave(&w.me);
	close_log(&w);
}

/* Of what was there, and of what was acknowledged since, all is as it was. */
static void check_life(void)
{
	open_log(&w);
	read_all(&w, map);
	size_t head = strlen(map);
	assert_true(head >= acknowledged && head >= strlen(expected));
	for (size_t i = 0; i < strlen(expected); i++)
		assert_true(map[i] == expected[i]);
	for (size_t i = strlen(expected); i < acknowledged; i++)
		assert_true(map[i] == 'M' || map[i] == 'L');
	assert_null(strchr(map, 'W'));
	assert_null(strchr(map, 'D'));
	append_many(&w, 3);
	close_log(&w);
}

static void count_progress(void *context, uint64_t done, uint64_t total)
{
	(void)context;
	assert_true(done <= total);
}

static void lives_from(void (*make)(void))
{
	static const struct run run = {.act = live, .check = check_life};

	make();
	take_template();
	open_log(&w);
	read_all(&w, expected);
	close_log(&w);
	w.options.mapped_max = 1;
	w.options.progress = count_progress;
	try_each(&run);
}

static void a_new_log_loses_nothing_whatever_fails(void **state)
{
	(void)state;
	lives_from(begin_new);
}

static void a_closed_log_loses_nothing_whatever_fails(void **state)
{
	(void)state;
	lives_from(begin_closed);
}

static void a_log_whose_process_died_loses_nothing_whatever_fails(void **state)
{
	(void)state;
	lives_from(begin_killed);
}

static void holes_are_told_the_same_whatever_fails(void **state)
{
	(void)state;
	lives_from(begin_with_holes);
}

static void a_log_whose_machine_died_loses_nothing_more_whatever_fails(void **state)
{
	(void)state;
	lives_from(begin_powerless);
}

/* ---- in memory ---- */

static void check_nothing(void)
{
}

static void a_log_in_memory_starts_whole_or_says_why_not(void **state)
{
	(void)state;
	static const struct run run = {.act = live, .check = check_nothing};
	w.options.dir = NULL;
	try_each(&run);
	w.options.dir = w.dir;
}

/* ---- repairing, dumping, renewing ---- */

static void repair(void)
{
	FILE *out = fmemopen(NULL, 1 << 16, "w");
	assert_non_null(out);
	is_refused = log_repair(w.dir, out, w.error, sizeof w.error) != 0;
	fclose(out);
}

/* A second repair makes of it what the first one would have. */
static void check_repair(void)
{
	repair();
	if (is_refused)
		fail_msg("%s", w.error);
	open_log(&w);
	read_all(&w, map);
	assert_null(strchr(map, 'W'));
	if (expected[0] != '\0' && !is_of_reading)
		assert_string_equal(map, expected);
	close_log(&w);
}

static void repaired_from(void (*make)(void))
{
	static const struct run run = {.act = repair, .check = check_repair};

	expected[0] = '\0';
	make();
	take_template();
	check_repair();
	memcpy(expected, map, sizeof expected);
	try_each(&run);
}

static void a_repair_in_which_anything_fails_is_completed_by_the_next(void **state)
{
	(void)state;
	repaired_from(begin_damaged);
}

static void a_repair_without_log_in_which_anything_fails_is_completed_by_the_next(void **state)
{
	(void)state;
	repaired_from(begin_without_log);
}

static void a_repair_without_links_in_which_anything_fails_is_completed_by_the_next(void **state)
{
	(void)state;
	has_no_links = true;
	repaired_from(begin_without_log);
}

static void damage_of_a_closed_log_is_repaired_the_same_whatever_fails(void **state)
{
	(void)state;
	repaired_from(begin_damaged_and_closed);
}

static void damage_after_a_loss_of_power_is_repaired_the_same_whatever_fails(void **state)
{
	(void)state;
	repaired_from(begin_damaged_and_powerless);
}

static void dump(void)
{
	static const struct dump_filter all = {.selects = NULL};
	FILE *out = fmemopen(NULL, 1 << 22, "w");
	assert_non_null(out);
	is_refused = log_dump(w.dir, &all, out, w.error, sizeof w.error) == DUMP_FAILED;
	fclose(out);
}

static void check_unchanged(void)
{
	char path[512];
	static char data[SMALL];

	for (size_t i = 0; i < template.count; i++) {
		path_of(&w, template.files[i].name, path);
		int fd = open(path, O_RDONLY | O_CLOEXEC, 0);
		assert_int_equal(read(fd, data, sizeof data), template.files[i].size);
		assert_memory_equal(data, template.files[i].data, template.files[i].size);
		close(fd);
	}
}

static void a_dump_in_which_anything_fails_says_so_and_changes_nothing(void **state)
{
	(void)state;
	static const struct run run = {.act = dump, .check = check_unchanged};
	static void (*const ways[])(void) = {begin_damaged, begin_without_log,
	                                     begin_damaged_and_closed, begin_damaged_and_powerless};
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		(void)count_files(&w, "", true);
		ways[i]();
		take_template();
		try_each(&run);
	}
}

static void renew(void)
{
	FILE *out = fmemopen(NULL, 4096, "w");
	assert_non_null(out);
	is_refused = log_renew_identity(w.dir, out, w.error, sizeof w.error) != 0;
	fclose(out);
}

static void check_whole(void)
{
	open_log(&w);
	read_all(&w, map);
	assert_string_equal(map, expected);
	close_log(&w);
}

static void another_identity_costs_no_message_whatever_fails(void **state)
{
	(void)state;
	static const struct run run = {.act = renew, .check = check_whole};
	begin_closed();
	take_template();
	open_log(&w);
	read_all(&w, expected);
	close_log(&w);
	try_each(&run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_log_loses_nothing_whatever_fails),
		TEST(a_closed_log_loses_nothing_whatever_fails),
		TEST(a_log_whose_process_died_loses_nothing_whatever_fails),
		TEST(holes_are_told_the_same_whatever_fails),
		TEST(a_log_whose_machine_died_loses_nothing_more_whatever_fails),
		TEST(a_log_in_memory_starts_whole_or_says_why_not),
		TEST(a_repair_in_which_anything_fails_is_completed_by_the_next),
		TEST(a_repair_without_log_in_which_anything_fails_is_completed_by_the_next),
		TEST(a_repair_without_links_in_which_anything_fails_is_completed_by_the_next),
		TEST(damage_of_a_closed_log_is_repaired_the_same_whatever_fails),
		TEST(damage_after_a_loss_of_power_is_repaired_the_same_whatever_fails),
		TEST(a_dump_in_which_anything_fails_says_so_and_changes_nothing),
		TEST(another_identity_costs_no_message_whatever_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
