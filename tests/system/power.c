/* SPDX-License-Identifier: MIT */
/*
 * power: a library for LD_PRELOAD that keeps a second copy of a log directory: what would be left
 * of it if the power were cut now. Only what was synced is in that copy; power.py makes a directory
 * of it, with any selection of what was not.
 *
 * POWER_LOG names the directory that is watched, POWER_DISK the one (on the same file system) where
 * the copy is kept:
 *
 *     journal       what happened to the names, in order, a line each:
 *                   have|create SERIAL NAME, rename SERIAL OLD NEW, unlink SERIAL NAME, syncdir
 *     SERIAL.live   a hard link to the file, so that its content outlives its names
 *     SERIAL.disk   its content when it was last synced
 *     SERIAL.failed a sync of it has failed: no later one can be trusted, the kernel has
 *                   marked the pages clean
 *     boot_id       what is read for /proc/sys/kernel/random/boot_id
 *     hold          while this file is there, syncs of files wait; `held` is made by the first
 *     fail          while this file is there, they fail with EIO
 *
 * Every file system is said to be ext4, since one in memory would need no syncs. The real syncs are
 * left out. What sync(2), syncfs and msync do is not known here: psad uses none of them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { PAGE = 4096, MAX_FILES = 1 << 16, EXT4_MAGIC = 0xEF53 };
static const char boot_id[] = "/proc/sys/kernel/random/boot_id";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *log_dir;
static const char *disk_dir;
static long delay_us;           /* the most that a sync takes */
static ino_t inodes[MAX_FILES]; /* of serial n; kept by our hard link, so that none comes twice */
static int files;

static void die(const char *what)
{
	fprintf(stderr, "power: %s: %s\n", what, strerror(errno));
	abort();
}

static const char *on_disk(char *path, const char *name)
{
	snprintf(path, PATH_MAX, "%s/%s", disk_dir, name);
	return path;
}

static const char *of_serial(char *path, int serial, const char *kind)
{
	snprintf(path, PATH_MAX, "%s/%d.%s", disk_dir, serial, kind);
	return path;
}

static bool exists(const char *name)
{
	char path[PATH_MAX];
	return access(on_disk(path, name), F_OK) == 0;
}

static void touch(const char *path)
{
	int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
}

/* One line, written at once: it is there as a whole or not at all, whenever we are killed. */
__attribute__((format(printf, 1, 2))) static void journal(const char *format, ...)
{
	char line[2 * NAME_MAX + 100];
	char path[PATH_MAX];
	va_list arguments;
	va_start(arguments, format);
	int size = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	int fd = REAL(open)(on_disk(path, "journal"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
	                    0600);
	if (fd < 0 || write(fd, line, (size_t)size) != size)
		die(path);
	close(fd);
}

static int serial_of(ino_t inode)
{
	for (int n = 0; n < files; n++)
		if (inodes[n] == inode)
			return n;
	return -1;
}

/* Files of an earlier life are known by their links. */
__attribute__((constructor)) static void begin(void)
{
	char path[PATH_MAX];
	struct stat st;
	log_dir = getenv("POWER_LOG");
	disk_dir = getenv("POWER_DISK");
	delay_us = getenv("POWER_DELAY_US") ? atol(getenv("POWER_DELAY_US")) : 0;
	if (!log_dir || !disk_dir)
		return;
	for (files = 0; files < MAX_FILES; files++) {
		if (stat(of_serial(path, files, "live"), &st) != 0)
			break;
		inodes[files] = st.st_ino;
	}
}

/* The name within the log directory that a path means; NULL: it is elsewhere. */
static const char *ours(int dirfd, const char *path)
{
	char parent[PATH_MAX];
	struct stat mine, theirs;
	if (!log_dir || stat(log_dir, &mine) != 0 || strlen(path) >= sizeof(parent))
		return NULL;
	const char *slash = strrchr(path, '/');
	snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path + 1) : 1,
	         slash ? path : ".");
	if (fstatat(dirfd, parent, &theirs, 0) != 0 || mine.st_ino != theirs.st_ino ||
	    mine.st_dev != theirs.st_dev)
		return NULL;
	return slash ? slash + 1 : path;
}

static void created(int dirfd, const char *path, int fd)
{
	const char *name = ours(dirfd, path);
	char live[PATH_MAX];
	struct stat st;
	if (!name || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	pthread_mutex_lock(&lock);
	if (serial_of(st.st_ino) < 0) {
		if (files == MAX_FILES)
			die("too many files");
		of_serial(live, files, "live");
		if (linkat(dirfd, path, AT_FDCWD, live, 0) != 0)
			die(live);
		inodes[files] = st.st_ino;
		journal("create %d %s\n", files, name);
		files++;
	}
	pthread_mutex_unlock(&lock);
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	char replaced[PATH_MAX];
	if (disk_dir && strcmp(path, boot_id) == 0)
		path = on_disk(replaced, "boot_id");
	int fd = REAL(openat)(dirfd, path, flags, mode);
	if (fd >= 0 && flags & O_CREAT) {
		int error = errno;
		created(dirfd, path, fd);
		errno = error;
	}
	return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                                                 \
	EXPORT int name(const char *path, int flags, ...)                                          \
	{                                                                                          \
		va_list arguments;                                                                 \
		va_start(arguments, flags);                                                        \
		mode_t mode = mode_of(flags, arguments);                                           \
		va_end(arguments);                                                                 \
		return open_at(AT_FDCWD, path, flags, mode);                                       \
	}
#define OPENAT(name)                                                                               \
	EXPORT int name(int dirfd, const char *path, int flags, ...)                               \
	{                                                                                          \
		va_list arguments;                                                                 \
		va_start(arguments, flags);                                                        \
		mode_t mode = mode_of(flags, arguments);                                           \
		va_end(arguments);                                                                 \
		return open_at(dirfd, path, flags, mode);                                          \
	}
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)
OPENAT(openat)
OPENAT(openat64)
OPENAT(__openat_2)
OPENAT(__openat64_2)

EXPORT int creat(const char *path, mode_t mode)
{
	return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

#define FOPEN(name)                                                                                \
	EXPORT FILE *name(const char *path, const char *mode)                                      \
	{                                                                                          \
		char replaced[PATH_MAX];                                                           \
		if (disk_dir && strcmp(path, boot_id) == 0)                                        \
			path = on_disk(replaced, "boot_id");                                       \
		FILE *file = REAL(fopen)(path, mode);                                              \
		if (file && mode[0] != 'r')                                                        \
			created(AT_FDCWD, path, fileno(file));                                     \
		return file;                                                                       \
	}
FOPEN(fopen)
FOPEN(fopen64)

/* Names change under the lock, so that the journal has the order in which they did. */

EXPORT int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	const char *old = ours(from_fd, from), *new = ours(to_fd, to);
	struct stat st = {0};
	pthread_mutex_lock(&lock);
	if (old)
		fstatat(from_fd, from, &st, AT_SYMLINK_NOFOLLOW);
	int result = REAL(renameat2)(from_fd, from, to_fd, to, flags);
	if (result == 0 && old && new &&serial_of(st.st_ino) >= 0)
		journal("rename %d %s %s\n", serial_of(st.st_ino), old, new);
	pthread_mutex_unlock(&lock);
	return result;
}

EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return renameat2(from_fd, from, to_fd, to, 0);
}

EXPORT int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
	const char *name = ours(dirfd, path);
	struct stat st = {0};
	pthread_mutex_lock(&lock);
	if (name)
		fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW);
	int result = REAL(unlinkat)(dirfd, path, flags);
	if (result == 0 && name && serial_of(st.st_ino) >= 0)
		journal("unlink %d %s\n", serial_of(st.st_ino), name);
	pthread_mutex_unlock(&lock);
	return result;
}

EXPORT int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int remove(const char *path)
{
	struct stat st;
	bool is_directory = lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
	return unlinkat(AT_FDCWD, path, is_directory ? AT_REMOVEDIR : 0);
}

/*
 * What was written before the call is on the disk after it, page by page; a kill in the middle
 * leaves some of them, as it would there.
 */
static void copy(int serial)
{
	char path[PATH_MAX], page[PAGE], old[PAGE];
	struct stat st;
	int from = REAL(open)(of_serial(path, serial, "live"), O_RDONLY | O_CLOEXEC);
	int to = REAL(open)(of_serial(path, serial, "disk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (from < 0 || to < 0 || fstat(from, &st) != 0 || ftruncate(to, st.st_size) != 0)
		die(path);
	for (off_t at = 0; at < st.st_size; at += PAGE) {
		ssize_t size = pread(from, page, PAGE, at);
		if (size > 0 &&
		    (pread(to, old, PAGE, at) != size || memcmp(page, old, (size_t)size)))
			if (pwrite(to, page, (size_t)size, at) != size)
				die(path);
	}
	close(from);
	close(to);
}

static int sync_file(int serial)
{
	char path[PATH_MAX];
	while (exists("hold")) {
		touch(on_disk(path, "held"));
		usleep(1000);
	}
	if (delay_us > 0) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		usleep((useconds_t)(now.tv_nsec / 1000 % delay_us));
	}
	if (exists("fail")) {
		touch(of_serial(path, serial, "failed"));
		errno = EIO;
		return -1;
	}
	if (access(of_serial(path, serial, "failed"), F_OK) != 0)
		copy(serial);
	return 0;
}

EXPORT int fdatasync(int fd)
{
	struct stat st, mine;
	if (!log_dir || fstat(fd, &st) != 0)
		return REAL(fdatasync)(fd);
	pthread_mutex_lock(&lock);
	int serial = S_ISREG(st.st_mode) ? serial_of(st.st_ino) : -1;
	if (S_ISDIR(st.st_mode) && stat(log_dir, &mine) == 0 && st.st_ino == mine.st_ino)
		journal("syncdir\n");
	pthread_mutex_unlock(&lock);
	return serial < 0 ? 0 : sync_file(serial);
}

EXPORT int fsync(int fd)
{
	return fdatasync(fd);
}

#define STATFS(name, type, first)                                                                  \
	EXPORT int name(first, struct type *result)                                                \
	{                                                                                          \
		int status = REAL(name)(what, result);                                             \
		if (status == 0 && log_dir)                                                        \
			result->f_type = EXT4_MAGIC;                                               \
		return status;                                                                     \
	}
STATFS(statfs, statfs, const char *what)
STATFS(statfs64, statfs64, const char *what)
STATFS(fstatfs, statfs, int what)
STATFS(fstatfs64, statfs64, int what)
