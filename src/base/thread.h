/* SPDX-License-Identifier: MIT */
/*
 * thread: how all threads but the first are started. Signals to the process are the main thread's
 * alone; those that a thread causes by what it does (a mapped file that was cut short, see
 * log/fault.h) stay its own: a thread that blocked them would be killed by them.
 */
#ifndef PSAD_BASE_THREAD_H
#define PSAD_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* Starts run(context); the caller joins it. 0 or a negative errno. Thread: any. */
static inline int thread_start(pthread_t *thread, void *(*run)(void *), void *context)
{
	sigset_t blocked, before;

	sigfillset(&blocked);
	sigdelset(&blocked, SIGBUS);
	sigdelset(&blocked, SIGSEGV);
	sigdelset(&blocked, SIGFPE);
	sigdelset(&blocked, SIGILL);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	int error = pthread_create(thread, NULL, run, context);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

#endif
