/* SPDX-License-Identifier: MIT */
/*
 * failing: a library for LD_PRELOAD in which the n-th call of a function fails, as it would for
 * want of memory, descriptors or room, or because of a bad disk or peer.
 *
 * FAILING_FILE names a file that holds a struct control. Every process that loads the library
 * maps it, so that failing.py can say at any time what is to fail next, and see what was called.
 * Calls of the libraries are counted with the daemon's own; those that libc makes of itself are
 * not seen, which is why fopen and the like stand here beside open. With FAILING_TRACE set, each
 * call that fails is shown on standard error, as addresses for addr2line.
 *
 * Not here, because they cannot fail for the reasons above: eventfd_write and eventfd_read (an
 * eventfd that is full has been heard already), close, clock_gettime, sigaction.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* What is counted together. */
#define GROUPS(X)                                                                                  \
	X(alloc)                                                                                   \
	X(mmap)                                                                                    \
	X(munmap)                                                                                  \
	X(mprotect)                                                                                \
	X(madvise)                                                                                 \
	X(open)                                                                                    \
	X(directory)                                                                               \
	X(mkdir)                                                                                   \
	X(fallocate)                                                                               \
	X(ftruncate)                                                                               \
	X(sync)                                                                                    \
	X(rename)                                                                                  \
	X(link)                                                                                    \
	X(unlink)                                                                                  \
	X(stat)                                                                                    \
	X(fcntl)                                                                                   \
	X(pread)                                                                                   \
	X(pwrite)                                                                                  \
	X(read)                                                                                    \
	X(write)                                                                                   \
	X(send)                                                                                    \
	X(accept)                                                                                  \
	X(epoll_create)                                                                            \
	X(epoll_ctl)                                                                               \
	X(epoll_wait)                                                                              \
	X(eventfd)                                                                                 \
	X(pipe)                                                                                    \
	X(socket)                                                                                  \
	X(bind)                                                                                    \
	X(listen)                                                                                  \
	X(setsockopt)                                                                              \
	X(getsockname)                                                                             \
	X(connect)                                                                                 \
	X(shutdown)                                                                                \
	X(ioctl)                                                                                   \
	X(poll)                                                                                    \
	X(pthread_create)                                                                          \
	X(getrandom)                                                                               \
	X(rlimit)

enum group {
#define X(name) G_##name,
	GROUPS(X)
#undef X
		GROUP_COUNT
};

static const char *const names[GROUP_COUNT] = {
#define X(name) #name,
	GROUPS(X)
#undef X
};

enum { GROUPS_MAX = 64, NAME_SIZE = 24, SHORT = -1, THREADS_MAX = 4096, PATH_SIZE = 512 };

/* failing.py knows it too. */
struct control {
	char wanted[NAME_SIZE]; /* the group that fails, by name: looked up when a process begins */
	_Atomic uint64_t group; /* the same by number */
	_Atomic uint64_t from;  /* the calls from this one on fail (the first is 1); 0: none does */
	_Atomic uint64_t times; /* so many of them */
	_Atomic int64_t error;  /* with this errno; SHORT: they transfer one byte */
	_Atomic uint64_t fired; /* so many have failed */
	char synced[PATH_SIZE]; /* of the sync that failed last: what it was to sync */
	struct {
		char name[NAME_SIZE];
		_Atomic uint64_t calls;
	} groups[GROUPS_MAX];
};

static struct control *control;
static bool is_tracing;

/*
 * The calls of this thread are counted: not before the function that it was started for runs, since
 * a sanitizer that prepares it takes no failure.
 */
static __thread bool is_counted __attribute__((tls_model("initial-exec")));

static void *real_of(const char *name)
{
	void *at = dlsym(RTLD_NEXT, name);
	if (at == NULL)
		abort();
	return at;
}

/* By bare system calls: it must not matter who else replaces what. */
__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAILING_FILE");
	int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	struct control *mapped = (struct control *)syscall(
		SYS_mmap, NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	if (mapped == MAP_FAILED)
		return;
	for (int i = 0; i < GROUP_COUNT; i++) {
		strcpy(mapped->groups[i].name, names[i]);
		if (strcmp(mapped->wanted, names[i]) == 0)
			mapped->group = (uint64_t)i;
	}
	if (getenv("FAILING_TRACE") != NULL) {
		void *frame;
		(void)backtrace(&frame, 1); /* loads what it needs */
		is_tracing = true;
	}
	is_counted = true;
	control = mapped;
}

/* Counts the call. 0: it is to succeed; SHORT, or the errno with which it fails. */
static int fault(enum group group)
{
	if (control == NULL || !is_counted)
		return 0;
	uint64_t n = atomic_fetch_add(&control->groups[group].calls, 1) + 1;
	uint64_t from = control->from;
	if (control->group != (uint64_t)group || from == 0 || n < from ||
	    n - from >= control->times)
		return 0;
	atomic_fetch_add(&control->fired, 1);
	if (is_tracing) {
		void *frames[32];
		backtrace_symbols_fd(frames, backtrace(frames, 32), 2);
	}
	return (int)control->error;
}

#define FAILS(group, failure)                                                                      \
	do {                                                                                       \
		int error_ = fault(G_##group);                                                     \
		if (error_ > 0) {                                                                  \
			errno = error_;                                                            \
			return failure;                                                            \
		}                                                                                  \
	} while (0)

#define REAL(name)                                                                                 \
	static __typeof__(&name) real;                                                             \
	if (real == NULL)                                                                          \
	real = (__typeof__(&name))real_of(#name)

#define WRAP(type, failure, group, name, parameters, arguments)                                    \
	EXPORT type name parameters                                                                \
	{                                                                                          \
		REAL(name);                                                                        \
		FAILS(group, failure);                                                             \
		return real arguments;                                                             \
	}

/* Those that return the error instead of setting errno. */
#define WRAP_ERROR(group, name, parameters, arguments)                                             \
	EXPORT int name parameters                                                                 \
	{                                                                                          \
		REAL(name);                                                                        \
		int error = fault(G_##group);                                                      \
		return error > 0 ? error : real arguments;                                         \
	}

/* Those that may transfer less than they were asked to; `n` is how much that is. */
#define WRAP_TRANSFER(group, name, parameters, arguments)                                          \
	EXPORT ssize_t name parameters                                                             \
	{                                                                                          \
		REAL(name);                                                                        \
		int error = fault(G_##group);                                                      \
		if (error > 0) {                                                                   \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
		if (error == SHORT && n > 1)                                                       \
			n = 1;                                                                     \
		return real arguments;                                                             \
	}

/* ---- memory ---- */

WRAP(void *, NULL, alloc, malloc, (size_t n), (n))
WRAP(void *, NULL, alloc, calloc, (size_t count, size_t n), (count, n))
WRAP(void *, NULL, alloc, realloc, (void *at, size_t n), (at, n))
WRAP(void *, NULL, alloc, aligned_alloc, (size_t alignment, size_t n), (alignment, n))
WRAP_ERROR(alloc, posix_memalign, (void **at, size_t alignment, size_t n), (at, alignment, n))

WRAP(void *, MAP_FAILED, mmap, mmap,
     (void *at, size_t n, int protection, int flags, int fd, off_t offset),
     (at, n, protection, flags, fd, offset))
WRAP(int, -1, munmap, munmap, (void *at, size_t n), (at, n))
WRAP(int, -1, mprotect, mprotect, (void *at, size_t n, int protection), (at, n, protection))
WRAP(int, -1, madvise, madvise, (void *at, size_t n, int advice), (at, n, advice))
WRAP(ssize_t, -1, getrandom, getrandom, (void *at, size_t n, unsigned flags), (at, n, flags))

/* ---- files ---- */

static mode_t mode_of(int flags, va_list arguments)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name, parameters, arguments)                                                          \
	EXPORT int name parameters                                                                 \
	{                                                                                          \
		REAL(name);                                                                        \
		va_list list;                                                                      \
		va_start(list, flags);                                                             \
		mode_t mode = mode_of(flags, list);                                                \
		va_end(list);                                                                      \
		FAILS(open, -1);                                                                   \
		return real arguments;                                                             \
	}
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
WRAP(int, -1, open, __open_2, (const char *path, int flags), (path, flags))
WRAP(int, -1, open, __openat_2, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(FILE *, NULL, open, fopen, (const char *path, const char *mode), (path, mode))

WRAP(DIR *, NULL, directory, fdopendir, (int fd), (fd))
WRAP(struct dirent *, NULL, directory, readdir, (DIR * dir), (dir))
WRAP(int, -1, mkdir, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP_ERROR(fallocate, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n))
WRAP(int, -1, ftruncate, ftruncate, (int fd, off_t n), (fd, n))

static bool sync_fails(int fd)
{
	int error = fault(G_sync);
	if (error == 0)
		return false;
	char name[32];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, control->synced, PATH_SIZE - 1);
	control->synced[n < 0 ? 0 : n] = '\0';
	errno = error;
	return true;
}

#define WRAP_SYNC(name)                                                                            \
	EXPORT int name(int fd)                                                                    \
	{                                                                                          \
		REAL(name);                                                                        \
		return sync_fails(fd) ? -1 : real(fd);                                             \
	}
WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)

WRAP(int, -1, rename, renameat, (int from_dir, const char *from, int to_dir, const char *to),
     (from_dir, from, to_dir, to))
WRAP(int, -1, link, linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags),
     (from_dir, from, to_dir, to, flags))
WRAP(int, -1, unlink, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(int, -1, unlink, unlink, (const char *path), (path))
WRAP(int, -1, stat, fstat, (int fd, struct stat *status), (fd, status))
WRAP(int, -1, stat, lstat, (const char *path, struct stat *status), (path, status))
WRAP(int, -1, stat, fstatat, (int dir, const char *path, struct stat *status, int flags),
     (dir, path, status, flags))
WRAP(int, -1, stat, fstatfs, (int fd, struct statfs *status), (fd, status))

EXPORT int fcntl(int fd, int command, ...)
{
	REAL(fcntl);
	va_list list;
	va_start(list, command);
	void *argument = va_arg(list, void *);
	va_end(list);
	FAILS(fcntl, -1);
	return real(fd, command, argument);
}

WRAP_TRANSFER(pread, pread, (int fd, void *at, size_t n, off_t offset), (fd, at, n, offset))
WRAP_TRANSFER(pwrite, pwrite, (int fd, const void *at, size_t n, off_t offset), (fd, at, n, offset))

/*
 * A pipe within the process: libevent's, by which its signal handler wakes its loop. It can neither
 * break nor, with a few bytes in it, be full, and libevent ends the process if it does.
 */
static bool is_pipe(int fd)
{
	struct stat status;
	return syscall(SYS_fstat, fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

#define WRAP_READ_WRITE(name, parameters)                                                          \
	EXPORT ssize_t name parameters                                                             \
	{                                                                                          \
		REAL(name);                                                                        \
		int error = is_pipe(fd) ? 0 : fault(G_##name);                                     \
		if (error > 0) {                                                                   \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
		if (error == SHORT && n > 1)                                                       \
			n = 1;                                                                     \
		return real(fd, at, n);                                                            \
	}
WRAP_READ_WRITE(read, (int fd, void *at, size_t n))
WRAP_READ_WRITE(write, (int fd, const void *at, size_t n))

/* ---- sockets and events ---- */

WRAP_TRANSFER(send, send, (int fd, const void *at, size_t n, int flags), (fd, at, n, flags))

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	REAL(sendmsg);
	int error = fault(G_send);
	struct iovec first = {NULL, 0};
	struct msghdr one = *message;
	if (error > 0) {
		errno = error;
		return -1;
	}
	if (error == SHORT && message->msg_iovlen > 0) {
		first = message->msg_iov[0];
		first.iov_len = first.iov_len > 1 ? 1 : first.iov_len;
		one.msg_iov = &first;
		one.msg_iovlen = 1;
	}
	return real(fd, &one, flags);
}

WRAP(int, -1, accept, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),
     (fd, address, length, flags))
WRAP(int, -1, epoll_create, epoll_create1, (int flags), (flags))
WRAP(int, -1, epoll_create, epoll_create, (int size), (size))
/* Only what is added takes memory, and counts against a limit. */
EXPORT int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
	REAL(epoll_ctl);
	if (what == EPOLL_CTL_ADD)
		FAILS(epoll_ctl, -1);
	return real(set, what, fd, event);
}

WRAP(int, -1, epoll_wait, epoll_wait, (int set, struct epoll_event *events, int most, int timeout),
     (set, events, most, timeout))
WRAP(int, -1, eventfd, eventfd, (unsigned value, int flags), (value, flags))
WRAP(int, -1, pipe, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(int, -1, pipe, pipe, (int fds[2]), (fds))
WRAP(int, -1, pipe, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(int, -1, socket, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, -1, bind, bind, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
WRAP(int, -1, listen, listen, (int fd, int backlog), (fd, backlog))
WRAP(int, -1, setsockopt, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length))
WRAP(int, -1, getsockname, getsockname, (int fd, struct sockaddr *address, socklen_t *length),
     (fd, address, length))
WRAP(int, -1, connect, connect, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
WRAP(int, -1, shutdown, shutdown, (int fd, int how), (fd, how))
WRAP(int, -1, poll, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	REAL(ioctl);
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	FAILS(ioctl, -1);
	return real(fd, request, argument);
}

/* ---- the process ---- */

struct beginning {
	void *(*run)(void *);
	void *context;
};
static struct beginning beginnings[THREADS_MAX];
static atomic_uint begun;

static void *run_counted(void *context)
{
	const struct beginning *beginning = context;
	is_counted = true;
	return beginning->run(beginning->context);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context)
{
	REAL(pthread_create);
	int error = fault(G_pthread_create);
	if (error > 0)
		return error;
	unsigned n = atomic_fetch_add(&begun, 1);
	if (n >= THREADS_MAX)
		abort();
	beginnings[n] = (struct beginning){run, context};
	return real(thread, attributes, run_counted, &beginnings[n]);
}

WRAP(int, -1, rlimit, getrlimit, (__rlimit_resource_t what, struct rlimit *limit), (what, limit))
WRAP(int, -1, rlimit, setrlimit, (__rlimit_resource_t what, const struct rlimit *limit),
     (what, limit))
