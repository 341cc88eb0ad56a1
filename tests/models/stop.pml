/* SPDX-License-Identifier: MIT */
/*
 * The phases of a stop: the server says STOPPING, each worker executes what has been received and
 * reports, then the last head is fixed and everybody delivers up to it. A second signal or the
 * timeout says ENDING at any time. What must hold: the stop comes to its end; the head that is fixed
 * is that of all that was executed, and unless it is cut each worker has delivered up to it.
 *
 * tests/models/README.md says what is left out and how to run this.
 *
 * Stands for:
 *     src/server.c enter_phase eb8ce6bf
 *     src/server.c on_report 995b6c3d
 *     src/server.c on_drain_timeout 17e92ca2
 *     src/server.c begin_end 7ee49dc3
 *     src/net/worker.c follow_phase d9833993
 *     src/net/worker.c report_stopped 1a907794
 *     src/net/worker.c is_done 700a6a05
 *     src/net/worker.c worker_poke 9365f8c6
 */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef RECEIVED
#define RECEIVED 1 /* publishes that each worker gets */
#endif
#ifndef CUTS
#define CUTS 0 /* ENDING comes, some time */
#endif
#define RUNNING 0
#define STOPPING 1
#define DRAINING 2
#define ENDING 3

byte phase;                 /* hub.phase [O10] */
byte drain_head;            /* published by the phase */
byte log;                   /* the head */
byte stopped, finished;     /* hub's counts of workers */
bool edge[WORKERS];         /* eventfds */
bool report;                /* the server's */
byte received[WORKERS];     /* in the workers' sockets */
byte delivered[WORKERS];    /* of the proof */
bool is_over, was_cut;

proctype client(byte w)
{
	byte n = 0;
	do
	:: n == RECEIVED -> break
	:: atomic { n < RECEIVED -> received[w]++; n++; edge[w] = 1 }
	:: phase >= DRAINING -> break
	od
}

proctype worker(byte me)
{
	byte mine = RUNNING, end = 0, seen, input;
	bool has_reported = 0, is_swept = 0;

	do
	::
		/* follow_phase */
		seen = phase; /* [O10] */
		do
		:: mine >= seen -> break
		:: else ->
			mine++;
			if
			:: mine == DRAINING -> end = drain_head
			:: else
			fi
		od;
		/* What has come in is executed: with STOPPING for the last time. */
#ifdef BUG_REPORTED_BEFORE_SWEPT
		if
		:: mine >= STOPPING && !has_reported ->
			has_reported = 1; stopped++; report = 1
		:: else
		fi;
#endif
		if
		:: !is_swept && mine < DRAINING ->
			atomic { input = received[me]; received[me] = 0 }
			atomic { log = log + input; input = 0 }
			if :: mine >= STOPPING -> is_swept = 1 :: else fi
		:: else -> is_swept = 1
		fi;
		/* report_stopped */
		if
		:: mine >= STOPPING && is_swept && !has_reported ->
			has_reported = 1;
#ifdef BUG_REPORTED_BEFORE_COUNTED
			report = 1;
			stopped++ /* lock xadd */
#else
			stopped++; /* lock xadd */
			report = 1
#endif
		:: else
		fi;
		if
		:: mine >= DRAINING && has_reported ->
			delivered[me] = end;
			break /* is_done */
		:: else -> atomic { edge[me] -> edge[me] = 0 } /* the turn */
		fi
	od;
	finished++;
	report = 1
}

/* enter_phase and worker_poke */
inline enter_phase(p)
{
#ifdef BUG_POKED_BEFORE_PHASE
	w = 0;
	do
	:: w == WORKERS -> break
	:: else -> edge[w] = 1; w++
	od;
	phase = p;
#else
	phase = p; /* [O10] */
#ifndef BUG_NOT_POKED
	w = 0;
	do
	:: w == WORKERS -> break
	:: else -> edge[w] = 1; w++
	od;
#endif
#endif
	w = 0
}

proctype server()
{
	byte w, cuts = CUTS;

	enter_phase(STOPPING); /* begin_end */
	do
	:: report -> /* on_report */
		report = 0;
		if
#ifdef BUG_HEAD_FIXED_EARLY
		:: phase == STOPPING && stopped > 0 ->
#else
		:: phase == STOPPING && stopped == WORKERS ->
#endif
#ifdef BUG_HEAD_BEHIND_PHASE
			enter_phase(DRAINING);
			drain_head = log
#else
			drain_head = log;
			enter_phase(DRAINING)
#endif
		:: else
		fi;
		if
		:: finished == WORKERS -> break
		:: else
		fi
	:: cuts > 0 && phase < ENDING -> /* on_drain_timeout, on_signal */
		cuts--;
		was_cut = 1;
		enter_phase(ENDING)
	od;
	is_over = 1
}

init {
	byte t = 0;
	atomic {
		do
		:: t == WORKERS -> break
		:: else -> run worker(t); run client(t); t++
		od;
		run server()
	}
	timeout ->
	assert(is_over); /* nobody hangs */
	t = 0;
	do
	:: t == WORKERS -> break
	:: else -> assert(was_cut || delivered[t] == log); t++
	od
}
