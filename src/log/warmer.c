/* SPDX-License-Identifier: MIT */
/* Model: tests/models/epoch.pml */
#include "log/warmer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/diag.h"
#include "log/chain.h"
#include "log/pages.h"
#include "log/store.h"
#include "log/verify.h"

enum {
	TICK_MS = 1000,
	FADING_MS = 1,         /* a grace period is running */
	ROOM_MS = 10,          /* all that are mapped have just been warmed for somebody */
	MEMORY_MS = 100,       /* there was no memory */
	FRESH_MS = 200,        /* so long what was warmed waits to be looked at */
	FADING_MAX = 16,       /* mappings in their grace period */
	POLLS_PER_PASS = 3,    /* ck_epoch needs two or three to come round */
	PIECE_BYTES = 1 << 20, /* read between two looks whether to stop */
	PIECE_ENTRIES = 256,   /* verified likewise */
	SAID_MAX = 4,          /* damaged ranges of a segment that are told one by one */
};

/* A stored segment that is mapped, by its file's number: it may be gone any time. */
struct mapped {
	uint64_t number;
	uint64_t fresh_until_ms; /* until then, or until it is looked at, it stays */
};

/* A mapping that nobody finds any more; its segment is held. */
struct fading {
	struct epoch_deferred deferred;
	struct segment *segment;
	char *map;
	struct fading *next;
};

struct warmer {
	/* [O25] warmer_want: cas; take_wanted: cas, which acquires. A stack, by next_wanted; its
	 * segments are held. */
	_Alignas(CACHE_LINE) struct segment *wanted;
	_Alignas(CACHE_LINE) struct epoch_thread epoch;
	struct log *log;
	struct background background;

	struct segment *first, *last; /* the queue of those taken from the stack, by next_wanted */
	struct mapped mapped[WARMER_MAPPED_MAX];
	size_t mapped_count, mapped_max;
	uint64_t looked; /* the number of the first file that was not stored when we last looked */
	struct fading *fading;
	size_t fading_count;
	bool has_said_memory; /* that there is none; it is said once each time it begins */
};

/* ---- saying ---- */

static void say_ids(const struct warmer *warmer, const struct segment *segment, uint64_t from,
                    uint64_t to, const char *what)
{
	char name[STORE_NAME_MAX];

	store_name(segment->file.number, name);
	diag(DIAG_ERROR, "%s/%s: %s: messages %" PRIu64 " to %" PRIu64 " can't be read",
	     store_dir(warmer->log->store), name, what, from, to);
}

static void say_whole(const struct warmer *warmer, const struct segment *segment, const char *what)
{
	uint64_t base = atomic64_load_acquire(&segment->base);   /* [O2] */
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	say_ids(warmer, segment, base, base + state_entries(state) - 1, what);
}

/* What a repair has marked was said by the repair. */
static void say_gaps(const struct warmer *warmer, const struct segment *segment,
                     const struct gaps *gaps)
{
	size_t said = 0;

	for (size_t i = 0; gaps != NULL && i < gaps->count; i++) {
		const struct gap *gap = &gaps->at[i];
		if (gap->loss != LOSS_DAMAGED || !gap->is_news)
			continue;
		if (++said > SAID_MAX) {
			say_ids(warmer, segment, gap->from, gaps->at[gaps->count - 1].to,
			        "is damaged in more places");
			return;
		}
		say_ids(warmer, segment, gap->from, gap->to, "is damaged");
	}
}

static void say_memory(struct warmer *warmer, int error)
{
	if (error != 0 && !warmer->has_said_memory)
		diag(DIAG_WARNING, "%s: a segment can't be mapped (%s): trying again",
		     store_dir(warmer->log->store), strerror(-error));
	if (error == 0 && warmer->has_said_memory)
		diag(DIAG_NOTICE, "%s: segments can be mapped again",
		     store_dir(warmer->log->store));
	warmer->has_said_memory = error != 0;
}

/* ---- letting go ---- */

/* The segment whose file has the number; NULL: it has been retired. Inside a section. */
static struct segment *find_file(const struct warmer *warmer, uint64_t number)
{
	const struct directory *directory =
		atomic_load_pointer_acquire(&warmer->log->directory); /* [O5] */
	uint64_t first = directory->segments[0]->file.number;
	/* Numbers are dense. */
	return number < first || number - first >= directory->count
	               ? NULL
	               : directory->segments[number - first];
}

/* epoch_defer's release: nobody looks at the mapping any more. */
static void unmap(struct epoch_deferred *deferred, void *context)
{
	_Static_assert(offsetof(struct fading, deferred) == 0, "unmap() casts it back");
	struct fading *fading = (struct fading *)(void *)deferred;
	struct warmer *warmer = context;
	struct fading **link = &warmer->fading;

	while (*link != fading)
		link = &(*link)->next;
	*link = fading->next;
	warmer->fading_count--;
	store_unmap(fading->segment, fading->map);
	segment_let_go(fading->segment);
	free(fading);
}

/* Takes the mapping out of everybody's reach. False: no memory. Inside a section. */
static bool fade(struct warmer *warmer, struct segment *segment)
{
	struct fading *fading = malloc(sizeof *fading);
	if (fading == NULL)
		return false;
	*fading = (struct fading){
		.segment = segment, .map = segment_map(segment), .next = warmer->fading};
	warmer->fading = fading;
	warmer->fading_count++;
	segment_hold(segment);
	/* [O14] The gaps stay: they are those of the next mapping, most likely. */
	atomic_store_pointer_release(&segment->map, NULL);
	epoch_defer(&warmer->epoch, &fading->deferred, unmap, warmer);
	return true;
}

static bool is_fading(const struct warmer *warmer, const struct segment *segment)
{
	const struct fading *fading = warmer->fading;
	while (fading != NULL && fading->segment != segment)
		fading = fading->next;
	return fading != NULL;
}

static void forget_mapped(struct warmer *warmer, size_t i)
{
	warmer->mapped[i] = warmer->mapped[--warmer->mapped_count];
}

/* Forgets those that retention has taken, and lets go what has been damaged meanwhile. */
static void review_mapped(struct warmer *warmer)
{
	epoch_enter(&warmer->epoch);
	for (size_t i = warmer->mapped_count; i-- > 0;) {
		struct segment *segment = find_file(warmer, warmer->mapped[i].number);
		if (segment == NULL) {
			forget_mapped(warmer, i);
		} else if (segment_is_damaged(segment) && fade(warmer, segment)) {
			say_whole(warmer, segment, "was cut short, or can't be read");
			forget_mapped(warmer, i);
		}
	}
	epoch_leave(&warmer->epoch);
}

/* How long nobody has looked at it, in log.tick's; UINT32_MAX: never. */
static uint32_t age_of(const struct warmer *warmer, const struct segment *segment)
{
	uint32_t used = atomic32_load_relaxed(&segment->used_tick); /* it only helps to choose */
	return used == 0 ? UINT32_MAX : atomic32_load_relaxed(&warmer->log->tick) - used;
}

/* The one to be let go: of those not fresh the one used longest ago; mapped_count: none. */
static size_t choose(const struct warmer *warmer)
{
	uint64_t now_ms = clock_mono_ms();
	size_t chosen = warmer->mapped_count;
	uint64_t oldest = 0;

	for (size_t i = 0; i < warmer->mapped_count; i++) {
		const struct mapped *mapped = &warmer->mapped[i];
		const struct segment *segment = find_file(warmer, mapped->number);
		uint32_t age = segment == NULL ? UINT32_MAX : age_of(warmer, segment);
		if (segment != NULL && age == UINT32_MAX && now_ms < mapped->fresh_until_ms)
			continue;
		if (chosen < warmer->mapped_count &&
		    (age < oldest ||
		     (age == oldest && mapped->number > warmer->mapped[chosen].number)))
			continue;
		chosen = i;
		oldest = age;
	}
	return chosen;
}

/* Sees to it that one more can be mapped. False: not now. */
static bool make_room(struct warmer *warmer)
{
	if (warmer->fading_count >= FADING_MAX)
		return false;
	if (warmer->mapped_count < warmer->mapped_max)
		return true;
	epoch_enter(&warmer->epoch);
	size_t chosen = choose(warmer);
	struct segment *segment = chosen == warmer->mapped_count
	                                  ? NULL
	                                  : find_file(warmer, warmer->mapped[chosen].number);
	bool has_room = chosen < warmer->mapped_count && (segment == NULL || fade(warmer, segment));
	if (has_room)
		forget_mapped(warmer, chosen);
	epoch_leave(&warmer->epoch);
	return has_room;
}

static void note_mapped(struct warmer *warmer, uint64_t number, uint64_t fresh_ms)
{
	warmer->mapped[warmer->mapped_count++] =
		(struct mapped){.number = number, .fresh_until_ms = clock_mono_ms() + fresh_ms};
}

/* Those that this run has written and that are stored by now count like those that were warmed. */
static void take_stored(struct warmer *warmer)
{
	for (;;) {
		epoch_enter(&warmer->epoch);
		const struct directory *directory =
			atomic_load_pointer_acquire(&warmer->log->directory); /* [O5] */
		if (warmer->looked < directory->segments[0]->file.number)
			warmer->looked = directory->segments[0]->file.number;
		const struct segment *segment = find_file(warmer, warmer->looked);
		/* Those of former runs are cold, all of them at the start. */
		while (segment != NULL && segment_is_stored(segment) &&
		       segment_map(segment) == NULL)
			segment = find_file(warmer, ++warmer->looked);
		bool is_new = segment != NULL && segment_is_stored(segment);
		epoch_leave(&warmer->epoch);
		if (!is_new || !make_room(warmer))
			return;
		note_mapped(warmer, warmer->looked++, 0);
	}
}

/* ---- the queue ---- */

/* Moves what was asked for to the end of the queue, in the order in which it was. */
static void take_wanted(struct warmer *warmer)
{
	struct segment *newest, *oldest = NULL;

	do
		newest = atomic_load_pointer_acquire(&warmer->wanted);                /* [O25] */
	while (newest != NULL && !atomic_cas_pointer(&warmer->wanted, newest, NULL)); /* [O25] */
	if (newest == NULL)
		return;
	struct segment *last = newest;
	while (newest != NULL) {
		struct segment *next = newest->next_wanted;
		newest->next_wanted = oldest;
		oldest = newest;
		newest = next;
	}
	if (warmer->first == NULL)
		warmer->first = oldest;
	else
		warmer->last->next_wanted = oldest;
	warmer->last = last;
}

/* Takes the one behind `before` (NULL: the first) off the queue: nobody has to wait for it. */
static void dismiss(struct warmer *warmer, struct segment *before)
{
	struct segment **link = before == NULL ? &warmer->first : &before->next_wanted;
	struct segment *segment = *link;

	*link = segment->next_wanted;
	if (warmer->last == segment)
		warmer->last = before;
	/* [O24] Who still sees that somebody has asked has looked at log.warmed [O23] before. */
	atomic32_store_release(&segment->is_wanted, 0);
	segment_let_go(segment);
	(void)atomic64_add(&warmer->log->warmed, 1); /* [O23] */
	wake_ring(warmer->log->wake);
}

/* Those behind the first that retention has taken: held, they would count against its bound. */
static void dismiss_retired(struct warmer *warmer)
{
	take_wanted(warmer);
	for (struct segment *at = warmer->first; at != NULL && at->next_wanted != NULL;) {
		if (segment_is_retired(at->next_wanted))
			dismiss(warmer, at);
		else
			at = at->next_wanted;
	}
}

/* ---- warming ---- */

enum warm_verdict {
	WARM_DONE,  /* it can be read, or is known to be damaged, or nobody will ask for it again */
	WARM_LATER, /* there is no memory */
	WARM_STOPPED, /* in the middle, because we are to end, or retention has taken it */
};

/* Between two pieces of work on the first of the queue. */
static bool is_to_stop(struct warmer *warmer, const struct segment *segment)
{
	dismiss_retired(warmer);
	return background_is_stopping(&warmer->background) || segment_is_retired(segment);
}

/* Reads the pages begin..end - 1 of the mapping from the disk. */
static enum warm_verdict read_pages(struct warmer *warmer, const struct segment *segment, char *map,
                                    size_t begin, size_t end)
{
	begin = begin / PAGE * PAGE;
	end = (end + PAGE - 1) / PAGE * PAGE;
	for (size_t at = begin; at < end; at += PIECE_BYTES) {
		size_t n = end - at < PIECE_BYTES ? end - at : PIECE_BYTES;
		if (is_to_stop(warmer, segment))
			return WARM_STOPPED;
		int error = pages_populate(map + at, n, false);
		if (error == -ENOMEM || error == -EAGAIN)
			return WARM_LATER;
		if (error != 0) /* an old kernel, or a page that can't be had */
			pages_touch(map + at, n);
	}
	return WARM_DONE;
}

static enum warm_verdict verify(struct warmer *warmer, const struct segment *segment, char *map,
                                struct gap_list *list)
{
	uint32_t entries = state_entries(atomic64_load_acquire(&segment->state)); /* [O4] */

	for (uint32_t i = 0; i < entries; i += PIECE_ENTRIES) {
		uint32_t n = entries - i < PIECE_ENTRIES ? entries - i : PIECE_ENTRIES;
		if (is_to_stop(warmer, segment))
			return WARM_STOPPED;
		if (segment_verify(segment, map, i, n, list) != 0)
			return WARM_LATER;
	}
	return WARM_DONE;
}

/* Brings all of the mapping that holds something into memory and looks at it. */
static enum warm_verdict read_and_verify(struct warmer *warmer, const struct segment *segment,
                                         char *map, struct gap_list *list)
{
	uint64_t state = atomic64_load_acquire(&segment->state); /* [O4] */
	size_t index = (size_t)state_entries(state) * sizeof(struct entry);
	enum warm_verdict verdict =
		read_pages(warmer, segment, map, 0, SEGMENT_HEADER_SIZE + state_bytes(state));

	if (verdict == WARM_DONE)
		verdict = read_pages(warmer, segment, map, segment->size - index, segment->size);
	return verdict == WARM_DONE ? verify(warmer, segment, map, list) : verdict;
}

static bool are_same(const struct gaps *a, const struct gaps *b)
{
	if (a == NULL || b == NULL || a->count != b->count)
		return a == b;
	for (size_t i = 0; i < a->count; i++)
		if (a->at[i].from != b->at[i].from || a->at[i].to != b->at[i].to ||
		    a->at[i].loss != b->at[i].loss)
			return false;
	return true;
}

/* What was verified is what readers find. Nobody can be looking at its gaps: it was cold. */
static void publish(struct warmer *warmer, struct segment *segment, char *map, struct gaps *gaps)
{
	const struct gaps *before = segment_gaps(segment);

	atomic32_store_relaxed(&segment->used_tick, 0); /* it only helps to choose */
	if (are_same(before, gaps)) {
		free(gaps);
		segment_publish(segment, map, before);
	} else {
		say_gaps(warmer, segment, gaps);
		segment_publish(segment, map, gaps);
		free((void *)(uintptr_t)before);
	}
	note_mapped(warmer, segment->file.number, FRESH_MS);
	/* One tick for each: what was used lately is told apart however fast they come. Relaxed, it
	 * only helps to choose; 0 would mean never. */
	uint32_t tick = atomic32_load_relaxed(&warmer->log->tick) + 1;
	atomic32_store_relaxed(&warmer->log->tick, tick == 0 ? 1 : tick);
}

static void mark_damaged(const struct warmer *warmer, struct segment *segment, const char *what)
{
	atomic32_store_relaxed(&segment->is_damaged, 1); /* see there */
	say_whole(warmer, segment, what);
}

/* The file could not be mapped. */
static enum warm_verdict judge_error(struct warmer *warmer, struct segment *segment, int error)
{
	switch (error) {
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EAGAIN:
	case -EINTR:
		say_memory(warmer, error);
		return WARM_LATER;
	case -ENOENT:
		if (!segment_is_retired(segment)) /* [O18] that is why, mostly */
			mark_damaged(warmer, segment, "is gone");
		return WARM_DONE;
	case -EBADMSG:
		mark_damaged(warmer, segment, "is not what it was, or was cut short");
		return WARM_DONE;
	default:
		mark_damaged(warmer, segment, strerror(-error));
		return WARM_DONE;
	}
}

/* Warms a segment that is held. */
static enum warm_verdict warm(struct warmer *warmer, struct segment *segment)
{
	struct gap_list list = {.gaps = NULL};
	char *map = NULL;

	if (segment_map(segment) != NULL || segment_is_damaged(segment) ||
	    segment_is_retired(segment))
		return WARM_DONE;
	int error = store_map_segment(warmer->log->store, segment, &map);
	if (error != 0)
		return judge_error(warmer, segment, error);
	enum warm_verdict verdict = read_and_verify(warmer, segment, map, &list);
	if (verdict == WARM_DONE && segment_is_damaged(segment))
		say_whole(warmer, segment, "was cut short, or can't be read");
	if (verdict == WARM_DONE && !segment_is_damaged(segment)) {
		publish(warmer, segment, map, list.gaps);
		say_memory(warmer, 0);
		return WARM_DONE;
	}
	if (verdict == WARM_LATER)
		say_memory(warmer, -ENOMEM);
	store_unmap(segment, map);
	free(list.gaps);
	return verdict == WARM_STOPPED && !background_is_stopping(&warmer->background) ? WARM_DONE
	                                                                               : verdict;
}

/* ---- the thread ---- */

/* Warms what is wanted, one after the other. Returns in how many milliseconds to go on. */
static int serve(struct warmer *warmer)
{
	for (dismiss_retired(warmer); warmer->first != NULL; dismiss_retired(warmer)) {
		epoch_poll(&warmer->epoch);
		if (is_fading(warmer, warmer->first) || warmer->fading_count >= FADING_MAX)
			return FADING_MS;
		if (!make_room(warmer))
			return ROOM_MS;
		switch (warm(warmer, warmer->first)) {
		case WARM_DONE:
			break;
		case WARM_LATER:
			return MEMORY_MS;
		case WARM_STOPPED:
			return 0;
		}
		dismiss(warmer, NULL);
	}
	return TICK_MS;
}

static int pass(struct warmer *warmer)
{
	review_mapped(warmer);
	take_stored(warmer);
	int timeout_ms = serve(warmer);
	for (int i = 0; i < POLLS_PER_PASS && warmer->fading_count > 0; i++)
		epoch_poll(&warmer->epoch);
	return warmer->fading_count > 0 && timeout_ms > FADING_MS ? FADING_MS : timeout_ms;
}

static void *run(void *context)
{
	struct warmer *warmer = context;

	pthread_setname_np(pthread_self(), "psad-warmer");
	while (!background_is_stopping(&warmer->background))
		background_sleep(&warmer->background, pass(warmer));
	return NULL;
}

/* ---- from outside ---- */

void warmer_kick(struct warmer *warmer)
{
	background_kick(&warmer->background);
}

void warmer_want(struct warmer *warmer, struct segment *segment)
{
	struct segment *newest;

	/* Relaxed, a hint; then only one may link it. */
	if (atomic32_load_relaxed(&segment->is_wanted) != 0 ||
	    atomic32_exchange(&segment->is_wanted, 1) != 0) /* [O24] */
		return;
	segment_hold(segment);
	do {
		newest = atomic_load_pointer_acquire(&warmer->wanted); /* [O25] */
		segment->next_wanted = newest;
	} while (!atomic_cas_pointer(&warmer->wanted, newest, segment)); /* [O25] */
	warmer_kick(warmer);
}

struct warmer *warmer_new(struct log *log, size_t mapped_max)
{
	struct warmer *warmer = aligned_alloc(CACHE_LINE, sizeof *warmer);
	if (warmer == NULL)
		return NULL;
	memset(warmer, 0, sizeof *warmer);
	warmer->log = log;
	warmer->mapped_max =
		mapped_max == 0 || mapped_max > WARMER_MAPPED_MAX ? WARMER_MAPPED_MAX : mapped_max;
	if (background_open(&warmer->background) != 0) {
		free(warmer);
		return NULL;
	}
	epoch_register(&log->epoch, &warmer->epoch);
	atomic32_store_relaxed(&log->tick, 1); /* 0 is never */
	return warmer;
}

int warmer_start(struct warmer *warmer)
{
	return background_start(&warmer->background, run, warmer);
}

void warmer_stop(struct warmer *warmer)
{
	background_stop(&warmer->background);
}

void warmer_release(struct warmer *warmer)
{
	take_wanted(warmer);
	while (warmer->first != NULL)
		dismiss(warmer, NULL);
	epoch_drain(&warmer->epoch);
}

void warmer_free(struct warmer *warmer)
{
	if (warmer == NULL)
		return;
	background_close(&warmer->background);
	free(warmer);
}
