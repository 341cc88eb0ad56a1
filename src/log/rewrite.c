/* SPDX-License-Identifier: MIT */
#include "log/rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/pages.h"

enum { FILE_MODE = 0600, PIECE = 1 << 20, NAMES_MAX = 100, OTHER_NAME_MAX = 64 };

static int sync_dir(struct store *store)
{
	return fsync(store_fd(store)) == 0 ? 0 : -errno;
}

/* ---- copying ---- */

/* Copies up to `size` bytes; a page that can't be read is passed by where that is allowed. */
static int copy_bytes(int from, int to, size_t size, bool is_patient)
{
	char *piece = malloc(PIECE);
	size_t step = PIECE;
	int error = piece == NULL ? -ENOMEM : 0;

	for (size_t at = 0; error == 0 && at < size;) {
		ssize_t n = pread(from, piece, size - at < step ? size - at : step, (off_t)at);
		if (n < 0 && errno == EIO && is_patient) {
			at += step == PAGE ? PAGE : 0;
			step = PAGE;
			continue;
		}
		if (n <= 0) {
			error = n < 0 ? -errno : is_patient ? 0 : -EIO;
			break;
		}
		ssize_t written = pwrite(to, piece, (size_t)n, (off_t)at);
		if (written != n)
			error = written < 0 ? -errno : -ENOSPC;
		at += (size_t)n;
	}
	free(piece);
	return error;
}

static int patch(const struct rewrite *rewrite, int fd)
{
	char *map = mmap(NULL, rewrite->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	rewrite->patch(map, rewrite->context);
	munmap(map, rewrite->size);
	return 0;
}

static int fill(struct store *store, const struct rewrite *rewrite, const char *name, int fd)
{
	int error = -posix_fallocate(fd, 0, (off_t)rewrite->size);

	if (error == 0 && !rewrite->is_new) {
		int from = openat(store_fd(store), name, O_RDONLY | O_CLOEXEC);
		error = from < 0 ? -errno
		                 : copy_bytes(from, fd, rewrite->size, rewrite->is_patient);
		if (from >= 0)
			close(from);
	}
	if (error == 0)
		error = patch(rewrite, fd);
	if (error == 0 && fdatasync(fd) != 0)
		error = -errno;
	return error;
}

int rewrite_file(struct store *store, const struct rewrite *rewrite)
{
	const int dir = store_fd(store);
	char name[STORE_NAME_MAX], temporary[STORE_NAME_MAX + 4];

	store_name(rewrite->number, name);
	snprintf(temporary, sizeof temporary, "%s.tmp", name);
	int fd = openat(dir, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
	if (fd < 0)
		return -errno;
	int error = fill(store, rewrite, name, fd);
	if (error == 0 && rewrite->keeps)
		error = rewrite_keep(store, name);
	if (error == 0 && renameat(dir, temporary, dir, name) != 0)
		error = -errno;
	if (error == 0)
		error = sync_dir(store);
	if (error == 0)
		return fd;
	(void)unlinkat(dir, temporary, 0);
	close(fd);
	return error;
}

/* ---- other names ---- */

static bool is_same_file(int dir, const char *a, const char *b)
{
	struct stat one, other;
	return fstatat(dir, a, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstatat(dir, b, &other, AT_SYMLINK_NOFOLLOW) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* A synced copy under that name, which is free. */
static int keep_copy(struct store *store, const char *name, const char *other)
{
	static const char temporary[] = "damaged.seg.tmp"; /* a start removes it */
	const int dir = store_fd(store);
	struct stat status;
	int from = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (from < 0)
		return -errno;
	int to = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
	int error = to < 0 || fstat(from, &status) != 0 ? -errno : 0;
	if (error == 0)
		error = copy_bytes(from, to, (size_t)status.st_size, true);
	if (error == 0 && (fdatasync(to) != 0 || renameat(dir, temporary, dir, other) != 0))
		error = -errno;
	if (to >= 0)
		close(to);
	close(from);
	return error;
}

int rewrite_keep(struct store *store, const char *name)
{
	const int dir = store_fd(store);
	char other[OTHER_NAME_MAX];
	int error = 0;

	for (int i = 1; i < NAMES_MAX; i++) {
		if (i == 1)
			snprintf(other, sizeof other, "%s.damaged", name);
		else
			snprintf(other, sizeof other, "%s.%d.damaged", name, i);
		error = linkat(dir, name, dir, other, 0) == 0 ? 0 : -errno;
		if (error == -EEXIST && is_same_file(dir, name, other))
			error = 0;
		if (error != -EEXIST)
			break;
	}
	if (error == -EPERM || error == -EOPNOTSUPP || error == -EMLINK || error == -ENOSYS)
		error = keep_copy(store, name, other);
	if (error == -ENOENT)
		return 0;
	return error == 0 ? sync_dir(store) : error;
}

int rewrite_put_aside(struct store *store, uint64_t number)
{
	char name[STORE_NAME_MAX];

	store_name(number, name);
	int error = rewrite_keep(store, name);
	return error == 0 ? store_unlink(store, number) : error;
}
