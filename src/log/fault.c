/* SPDX-License-Identifier: MIT */
#include "log/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "log/pages.h"

/*
 * Static, because the handler may run at any time in any thread. A slot is changed only while no
 * thread can fault in its mapping; others read it meanwhile, so they look at `start` twice.
 */
static struct watched {
	/* [O20] fault_watch: release, when size and mark stand; the handler: acquire. 0: free. */
	uint64_t start;
	uint64_t size;
	uint32_t *mark;
} watched[FAULT_MAPPINGS_MAX];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of those who change slots */

/* The mark of the mapping that the address is in; NULL: it is none of ours. */
static uint32_t *find_mark(uint64_t address)
{
	for (size_t i = 0; i < FAULT_MAPPINGS_MAX; i++) {
		struct watched *slot = &watched[i];
		uint64_t start = atomic64_load_acquire(&slot->start); /* [O20] */
		uint64_t size = atomic64_load_relaxed(&slot->size);   /* between two looks */
		uint32_t *mark = atomic_load_pointer_acquire(&slot->mark);
		if (start == 0 || address - start >= size)
			continue;
		if (atomic64_load_acquire(&slot->start) == start) /* [O20] */
			return mark;
	}
	return NULL;
}

/*
 * Zeros of our own instead of the page that the file doesn't have. As a bare system call: mmap() is
 * not among what a signal handler may call, and a sanitizer takes it for a store into the page,
 * which another thread may be storing into at this moment (it came by a fault of its own).
 */
static bool replace_page(uint64_t address)
{
	uint64_t page = address & ~(uint64_t)(PAGE - 1);
	return syscall(SYS_mmap, page, PAGE, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (long)page;
}

/* Only what may be done in a signal handler: loads, stores and system calls. */
static void on_fault(int number, siginfo_t *info, void *context)
{
	const int saved_errno = errno;
	uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
	uint32_t *mark = find_mark(address);
	(void)context;

	/* The mark first: whoever finds the zeros and then looks at it knows what they are. */
	if (mark != NULL)
		atomic32_store_relaxed(mark, 1); /* see segment.is_damaged */
	if (mark == NULL || !replace_page(address))
		(void)signal(number, SIG_DFL); /* it comes again at once, and ends us */
	errno = saved_errno;
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, NULL);
}

int fault_watch(char *map, size_t size, uint32_t *mark)
{
	int error = -ENOMEM;
	/* Each time: it costs little, and whoever had other plans in between has none any more. */
	install();
	pthread_mutex_lock(&mutex);
	for (size_t i = 0; i < FAULT_MAPPINGS_MAX && error != 0; i++) {
		struct watched *slot = &watched[i];
		if (atomic64_load_relaxed(&slot->start) != 0) /* ours alone: the mutex */
			continue;
		atomic64_store_relaxed(&slot->size, size);
		atomic_store_pointer_release(&slot->mark, mark);
		atomic64_store_release(&slot->start, (uint64_t)(uintptr_t)map); /* [O20] */
		error = 0;
	}
	pthread_mutex_unlock(&mutex);
	return error;
}

void fault_forget(const char *map)
{
	pthread_mutex_lock(&mutex);
	for (size_t i = 0; i < FAULT_MAPPINGS_MAX; i++) {
		struct watched *slot = &watched[i];
		if (atomic64_load_relaxed(&slot->start) ==
		    (uint64_t)(uintptr_t)map) {                  /* as above */
			atomic64_store_release(&slot->start, 0); /* [O20] */
			break;
		}
	}
	pthread_mutex_unlock(&mutex);
}
