/* SPDX-License-Identifier: MIT */
/*
 * hang: a library for LD_PRELOAD that makes one thread of a program hang when it is told to, where
 * the kernel could: in a system call that does not return; and lets time go by for all of them.
 *
 * While the file $HANG_DIR/<thread>.<call> is there, a thread of that name waits in that call; the
 * file <thread>.<call>.held appears when it does. Calls: epoll_wait, poll, listen, sendmsg, send,
 * fdatasync, posix_fallocate, madvise. The monotonic clock is ahead by as many seconds as the file
 * $HANG_DIR/later has bytes.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void hang(const char *call)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	const char *dir = getenv("HANG_DIR");
	char thread[32] = "", path[512], held[528];

	if (dir == NULL || pthread_getname_np(pthread_self(), thread, sizeof thread) != 0)
		return;
	snprintf(path, sizeof path, "%s/%s.%s", dir, thread, call);
	if (access(path, F_OK) != 0)
		return;
	snprintf(held, sizeof held, "%s.held", path);
	close(open(held, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	while (access(path, F_OK) == 0)
		nanosleep(&pause, NULL);
	unlink(held);
}

#define WRAP(result, name, parameters, arguments)                                                  \
	result name parameters;                                                                    \
	result name parameters                                                                     \
	{                                                                                          \
		static result(*real) parameters;                                                   \
		if (real == NULL)                                                                  \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                 \
		hang(#name);                                                                       \
		return real arguments;                                                             \
	}

WRAP(int, epoll_wait, (int fd, struct epoll_event *events, int max, int timeout),
     (fd, events, max, timeout))
WRAP(int, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
WRAP(int, listen, (int fd, int backlog), (fd, backlog))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, send, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, madvise, (void *at, size_t size, int advice), (at, size, advice))
WRAP(int, posix_fallocate, (int fd, off_t offset, off_t length), (fd, offset, length))

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*real)(clockid_t, struct timespec *);
	const char *dir = getenv("HANG_DIR");
	char path[512];
	struct stat later;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	int result = real(clock, now);
	if (result == 0 && dir != NULL &&
	    (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) &&
	    snprintf(path, sizeof path, "%s/later", dir) < (int)sizeof path &&
	    stat(path, &later) == 0)
		now->tv_sec += later.st_size;
	return result;
}
