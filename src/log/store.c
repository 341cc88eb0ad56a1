/* SPDX-License-Identifier: MIT */
#include "log/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "log/fault.h"
#include "log/pages.h"

enum { DIR_MODE = 0700, FILE_MODE = 0600 };

static const char log_name[] = "log";

struct store {
	char *dir;
	int dir_fd, lock_fd;
	bool is_in_memory, populates_writes;
	uint64_t key;
	char boot[STORE_BOOT_MAX];
};

/* ---- the directory ---- */

/* Makes the directory and those above it that are missing. 0 or a negative errno. */
static int make_dir(const char *dir)
{
	char *path = strdup(dir);
	int error = path == NULL ? -ENOMEM : 0;

	for (char *at = path; error == 0 && at != NULL;) {
		at = strchr(at + 1, '/');
		if (at != NULL)
			*at = '\0';
		if (mkdir(path, DIR_MODE) != 0 && errno != EEXIST)
			error = -errno;
		if (at != NULL)
			*at = '/';
	}
	free(path);
	return error;
}

/* One of them at a time. 0, -EAGAIN when another process has it, or a negative errno. */
static int lock(struct store *store)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	store->lock_fd = openat(store->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
	if (store->lock_fd < 0)
		return -errno;
	if (fcntl(store->lock_fd, F_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

long store_owner(const struct store *store)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (store->lock_fd < 0 || fcntl(store->lock_fd, F_GETLK, &lock) != 0 ||
	    lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : -1; /* of one that we can't see */
}

static int open_dir(struct store *store, const char *dir, char *error, size_t error_size)
{
	int result = make_dir(dir);

	if (result == 0) {
		store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		result = store->dir_fd < 0 ? -errno : 0;
	}
	if (result == 0)
		result = lock(store);
	long owner = result == -EAGAIN ? store_owner(store) : 0;
	if (result == -EAGAIN && owner > 0)
		snprintf(error, error_size, "%s: the log is in use by process %ld", dir, owner);
	else if (result == -EAGAIN)
		snprintf(error, error_size, "%s: the log is in use by another process", dir);
	else if (result != 0)
		snprintf(error, error_size, "%s: can't be used as the directory of a log: %s", dir,
		         strerror(-result));
	return result == 0 ? 0 : -1;
}

static void read_boot(char boot[STORE_BOOT_MAX])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	boot[0] = '\0';
	if (file != NULL && fscanf(file, "%63[0-9a-f-]", boot) != 1)
		boot[0] = '\0';
	if (file != NULL)
		fclose(file);
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);
	return n >= m && strcmp(name + n - m, end) == 0;
}

/* What a former run had half made. Where one can't be removed it is in nobody's way. */
static void remove_half_made(struct store *store)
{
	int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		if (ends_in(entry->d_name, ".seg.tmp") || strcmp(entry->d_name, "log.tmp") == 0)
			(void)unlinkat(store->dir_fd, entry->d_name, 0);
	closedir(dir);
}

static struct store *new_store(const char *dir, char *error, size_t error_size)
{
	struct store *store = calloc(1, sizeof *store);

	if (store != NULL)
		*store = (struct store){.dir = strdup(dir), .dir_fd = -1, .lock_fd = -1};
	if (store == NULL || store->dir == NULL) {
		snprintf(error, error_size, "%s: no memory for the log", dir);
		free(store);
		return NULL;
	}
	return store;
}

static void learn_surroundings(struct store *store)
{
	struct statfs system;

	store->is_in_memory = fstatfs(store->dir_fd, &system) == 0 &&
	                      ((unsigned long)system.f_type == TMPFS_MAGIC ||
	                       (unsigned long)system.f_type == RAMFS_MAGIC);
	read_boot(store->boot);
}

struct store *store_open(const char *dir, char *error, size_t error_size)
{
	struct store *store = new_store(dir, error, error_size);

	if (store == NULL)
		return NULL;
	if (open_dir(store, dir, error, error_size) != 0) {
		store_close(store);
		return NULL;
	}
	learn_surroundings(store);
	remove_half_made(store);
	return store;
}

struct store *store_look(const char *dir, char *error, size_t error_size)
{
	struct store *store = new_store(dir, error, error_size);

	if (store == NULL)
		return NULL;
	store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0) {
		snprintf(error, error_size, "%s: %s", dir, strerror(errno));
		store_close(store);
		return NULL;
	}
	/* Only to be asked whose it is; without it nobody has it. */
	store->lock_fd = openat(store->dir_fd, "lock", O_RDONLY | O_CLOEXEC);
	learn_surroundings(store);
	return store;
}

void store_close(struct store *store)
{
	if (store == NULL)
		return;
	if (store->lock_fd >= 0)
		close(store->lock_fd); /* which unlocks */
	if (store->dir_fd >= 0)
		close(store->dir_fd);
	free(store->dir);
	free(store);
}

const char *store_dir(const struct store *store)
{
	return store->dir;
}

int store_fd(const struct store *store)
{
	return store->dir_fd;
}

const char *store_boot(const struct store *store)
{
	return store->boot;
}

bool store_is_in_memory(const struct store *store)
{
	return store->is_in_memory;
}

void store_set_populate(struct store *store, bool writes)
{
	store->populates_writes = writes || store->is_in_memory;
}

void store_set_key(struct store *store, uint64_t key)
{
	store->key = key;
}

void store_name(uint64_t number, char name[STORE_NAME_MAX])
{
	snprintf(name, STORE_NAME_MAX, "%020" PRIu64 ".seg", number);
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

/* The number in a segment file's name; false: it is another file's. */
static bool parse_name(const char *name, uint64_t *number)
{
	char expected[STORE_NAME_MAX];
	if (sscanf(name, "%20" SCNu64, number) != 1)
		return false;
	store_name(*number, expected);
	return strcmp(name, expected) == 0;
}

int store_list(struct store *store, uint64_t **numbers, size_t *count)
{
	int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t room = 0, n = 0;
	uint64_t *list = NULL, number;

	if (dir == NULL) {
		int error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	errno = 0;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL; errno = 0) {
		if (!parse_name(entry->d_name, &number))
			continue;
		if (n == room) {
			room = room == 0 ? 64 : 2 * room;
			uint64_t *more = realloc(list, room * sizeof *list);
			if (more == NULL)
				break; /* errno says it */
			list = more;
		}
		list[n++] = number;
	}
	int error = -errno;
	closedir(dir);
	if (error != 0) {
		free(list);
		return error;
	}
	if (n > 0)
		qsort(list, n, sizeof *list, compare_numbers);
	*numbers = list;
	*count = n;
	return 0;
}

static int sync_dir(struct store *store)
{
	return fsync(store->dir_fd) == 0 ? 0 : -errno;
}

int store_unlink(struct store *store, uint64_t number)
{
	char name[STORE_NAME_MAX];
	store_name(number, name);
	if (unlinkat(store->dir_fd, name, 0) != 0 && errno != ENOENT)
		return -errno;
	return sync_dir(store);
}

/* ---- the file `log` ---- */

int store_read_log(struct store *store, struct store_log *log, char *error, size_t error_size)
{
	char text[CHARTER_MAX + 1], fault[CHARTER_FAULT_MAX];
	int fd = openat(store->dir_fd, log_name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	ssize_t n = fd < 0 ? -1 : read(fd, text, CHARTER_MAX);
	if (n < 0)
		snprintf(error, error_size, "%s/log: can't be read: %s", store->dir,
		         strerror(errno));
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -1;
	text[n] = '\0';
	if (charter_parse(text, log) == 0)
		return 0;
	snprintf(error, error_size, "%s/log: %s", store->dir, charter_fault(text, fault));
	return -1;
}

/* Renames a file that is whole and on disk. */
static int put_in_place(struct store *store, const char *from, const char *to)
{
	if (renameat(store->dir_fd, from, store->dir_fd, to) != 0)
		return -errno;
	return sync_dir(store);
}

/* Writes a text to a file, from its beginning on, and syncs it. */
static int write_text(struct store *store, const char *name, int flags, const char *text, size_t n)
{
	int error = 0;
	int fd = openat(store->dir_fd, name, O_WRONLY | O_CLOEXEC | flags, FILE_MODE);
	if (fd < 0)
		return -errno;
	ssize_t written = write(fd, text, n);
	if (written != (ssize_t)n)
		error = written < 0 ? -errno : -ENOSPC;
	else if (ftruncate(fd, (off_t)n) != 0 || fdatasync(fd) != 0)
		error = -errno;
	close(fd);
	return error;
}

enum { SECTOR = 512 };

int store_write_log(struct store *store, const struct store_log *log)
{
	static const char temporary[] = "log.tmp";
	char text[CHARTER_MAX];
	size_t n = charter_print(log, text);
	int error = write_text(store, temporary, O_CREAT | O_TRUNC, text, n);

	if (error == 0)
		error = put_in_place(store, temporary, log_name);
	if (error == 0)
		return 0;
	(void)unlinkat(store->dir_fd, temporary, 0);
	/* On a full disk the file itself has room: less than a sector, which is written whole. */
	if ((error == -ENOSPC || error == -EDQUOT) && n <= SECTOR)
		error = write_text(store, log_name, 0, text, n);
	return error;
}

/* ---- segment files ---- */

struct segment *store_segment_of(const struct store *store, const struct header_constant *constant)
{
	struct segment *segment = aligned_alloc(CACHE_LINE, sizeof *segment);
	if (segment == NULL)
		return NULL;
	memset(segment, 0, sizeof *segment);
	segment->size = constant->size;
	segment->counted_bytes = constant->size;
	segment->max_entries = constant->max_entries;
	segment->ready_mark = SEGMENT_READY;
	segment->secret = constant->secret;
	segment->key = store->key;
	segment->is_durable = true;
	segment->file.number = constant->number;
	segment->file.id_bound = constant->id_bound;
	segment->file.fd = -1;
	atomic64_store_relaxed(&segment->base, SEGMENT_NO_BASE); /* nobody else sees it yet */
	return segment;
}

/* Appending is not to wait for pages. Where they can't be had now they will be when needed. */
static void populate(const struct store *store, char *map, size_t size)
{
	if (pages_populate(map, size, store->populates_writes) == -EINVAL)
		pages_touch(map, size);
}

int store_map_to_append(struct store *store, struct segment *segment, char **map)
{
	char *at =
		mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_SHARED, segment->file.fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	int error = fault_watch(at, segment->size, &segment->is_damaged);
	if (error != 0) {
		munmap(at, segment->size);
		return error;
	}
	populate(store, at, segment->size);
	*map = at;
	return 0;
}

void store_unmap(const struct segment *segment, char *map)
{
	fault_forget(map);
	munmap(map, segment->size);
}

void store_close_file(struct segment *segment)
{
	if (segment->file.fd >= 0)
		close(segment->file.fd);
	segment->file.fd = -1;
}

/* Allocates the new file, writes its header and brings both to the disk. */
static int fill_file(const struct segment *segment, const struct segment_header *header)
{
	int fd = segment->file.fd;
	int error = -posix_fallocate(fd, 0, (off_t)segment->size);
	if (error != 0)
		return error;
	ssize_t n = pwrite(fd, header, sizeof *header, 0);
	if (n != (ssize_t)sizeof *header)
		return n < 0 ? -errno : -ENOSPC;
	return fdatasync(fd) == 0 ? 0 : -errno;
}

/* Makes the file of a segment that has everything but its file. */
static int make_file(struct store *store, struct segment *segment,
                     const struct segment_header *header)
{
	char name[STORE_NAME_MAX], temporary[STORE_NAME_MAX + 4];

	store_name(segment->file.number, name);
	snprintf(temporary, sizeof temporary, "%s.tmp", name);
	segment->file.fd =
		openat(store->dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
	if (segment->file.fd < 0)
		return -errno;
	int error = fill_file(segment, header);
	if (error == 0)
		error = put_in_place(store, temporary, name);
	if (error != 0)
		(void)unlinkat(store->dir_fd, temporary, 0);
	return error;
}

static struct segment_header header_of(const struct store *store, const struct store_plan *plan)
{
	struct segment_header header = {.failed = 0};
	header.constant = (struct header_constant){
		.max_entries = plan->max_entries,
		.number = plan->number,
		.size = plan->size,
		.key = store->key,
		.secret = segment_draw_secret(),
		.id_bound = plan->before + header_capacity(plan->size, plan->max_entries),
	};
	header_set_constant(&header.constant);
	header_set_gap(&header, plan->base, plan->loss);
	header_set_synced(&header, 0);
	header_set_synced(&header, 0);
	return header;
}

struct segment *store_make_segment(struct store *store, const struct store_plan *plan, int *error)
{
	const struct segment_header header = header_of(store, plan);
	struct segment *segment = store_segment_of(store, &header.constant);
	char *map = NULL;

	*error = -ENOMEM;
	if (segment == NULL)
		return NULL;
	segment->loss = plan->loss;
	*error = make_file(store, segment, &header);
	if (*error == 0)
		*error = store_map_to_append(store, segment, &map);
	if (*error != 0) {
		segment_free(segment);
		return NULL;
	}
	segment_publish(segment, map, NULL);
	return segment;
}

/* Why a file is not a segment of this log; NULL when it is. */
static const char *find_fault(const struct store *store, uint64_t number, uint64_t file_size,
                              const struct header_constant *constant)
{
	if (memcmp(constant->magic, header_magic, sizeof header_magic) != 0)
		return "is not a segment of psad's";
	if (constant->byte_order == __builtin_bswap64(STORE_BYTE_ORDER))
		return "was written by a machine of the other byte order";
	if (constant->version != STORE_VERSION)
		return "has another format than this psad knows";
	if (!header_constant_is_good(constant) || constant->size < SEGMENT_SIZE_MIN ||
	    constant->size > SEGMENT_SIZE_MAX || constant->size % PAGE != 0)
		return "its header is damaged";
	if (constant->key != store->key)
		return "belongs to another log";
	if (constant->number != number)
		return "has been renamed: it is another segment's file";
	if (constant->size != file_size)
		return "has been cut short or made longer";
	return NULL;
}

/* Takes over the filter that was read with the header, where it is what was sealed. */
static void take_filter(struct segment *segment, const char *page)
{
	const struct segment_header *header = (const void *)page;
	if (!header_seal_is_good(&header->seal, segment->key) ||
	    !header_filter_is_good(header, page + FILTER_OFFSET))
		return;
	uint64_t *filter = malloc(FILTER_BITS / 8);
	if (filter != NULL)
		memcpy(filter, page + FILTER_OFFSET, FILTER_BITS / 8);
	segment->filter = filter;
}

/* Opens the file and reads its first page. Returns the descriptor, or a negative errno. */
static int open_file(struct store *store, uint64_t number, int flags, char page[PAGE],
                     uint64_t *size)
{
	char name[STORE_NAME_MAX];
	struct stat status;

	store_name(number, name);
	int fd = openat(store->dir_fd, name, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	memset(page, 0, PAGE); /* of a file that is shorter */
	int error = pread(fd, page, PAGE, 0) < 0 || fstat(fd, &status) != 0 ? -errno : 0;
	if (error != 0) {
		close(fd);
		return error;
	}
	*size = (uint64_t)status.st_size;
	return fd;
}

struct segment *store_open_segment(struct store *store, uint64_t number,
                                   struct segment_header *header, char *error, size_t error_size)
{
	_Alignas(512) char page[PAGE];
	char name[STORE_NAME_MAX];
	uint64_t size = 0;
	int fd = open_file(store, number, O_RDWR, page, &size);

	store_name(number, name);
	memcpy(header, page, sizeof *header);
	const char *fault =
		fd < 0 ? strerror(-fd) : find_fault(store, number, size, &header->constant);
	struct segment *segment = fault == NULL ? store_segment_of(store, &header->constant) : NULL;
	if (segment == NULL) {
		if (fd >= 0)
			close(fd);
		snprintf(error, error_size, "%s/%s: %s", store->dir, name,
		         fault == NULL ? "no memory" : fault);
		return NULL;
	}
	segment->file.fd = fd;
	take_filter(segment, page);
	return segment;
}

int store_map_segment(struct store *store, struct segment *segment, char **map)
{
	_Alignas(512) char page[PAGE];
	uint64_t size = 0;
	int fd = open_file(store, segment->file.number, O_RDONLY, page, &size);

	if (fd < 0)
		return fd;
	const struct segment_header *header = (const void *)page;
	if (find_fault(store, segment->file.number, size, &header->constant) != NULL ||
	    header->constant.secret != segment->secret) {
		close(fd);
		return -EBADMSG;
	}
	/* Private, so that what verification finds damaged can be covered up. */
	char *at = mmap(NULL, segment->size, PROT_READ, MAP_PRIVATE, fd, 0);
	int error = at == MAP_FAILED ? -errno : 0;
	close(fd);
	if (error == 0)
		error = fault_watch(at, segment->size, &segment->is_damaged);
	if (error != 0 && at != MAP_FAILED)
		munmap(at, segment->size);
	*map = at;
	return error;
}

int store_sync_segment(struct store *store, uint64_t number)
{
	char name[STORE_NAME_MAX];

	store_name(number, name);
	int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = fdatasync(fd) == 0 ? 0 : -errno;
	close(fd);
	return error;
}

bool store_has_file(struct store *store, const struct segment *segment)
{
	char name[STORE_NAME_MAX];
	struct stat ours, theirs;

	store_name(segment->file.number, name);
	return fstat(segment->file.fd, &ours) == 0 &&
	       fstatat(store->dir_fd, name, &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino &&
	       (uint64_t)ours.st_size == segment->size;
}
