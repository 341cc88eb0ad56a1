/* SPDX-License-Identifier: MIT */
/*
 * recover: from the files of a directory to a log that goes on.
 *
 * Segments that were sealed and synced are taken as their headers say. The others are scanned, and
 * what is missing there is judged by how the run before ended:
 *
 *     in good order           everything must be whole, up to the head that it wrote down
 *     its process died        (same boot, or a tmpfs) an entry is there or was never committed: the
 *                             latter becomes `void`. Anything else is damage.
 *     the machine died        what was known to be synced must be there. Of the rest what is
 *                             missing is `lost`, and so are all ids that may have been given out
 *                             behind: the log goes on in a new file, above the last file's id
 *                             bound.
 *
 * Damage refuses the start, with a sentence that names file, ids and what can be done; nothing has
 * been changed by then. Otherwise the last segment is appended to again, and the spares behind it
 * are used, so that restarts cost no segments.
 */
#ifndef PSAD_LOG_RECOVER_H
#define PSAD_LOG_RECOVER_H

#include "log/log.h"
#include "log/store.h"

/* How the run before ended: as in the table above. */
enum ending { ENDED_CLEAN, ENDED_PROCESS, ENDED_MACHINE };

/* What a log can be built from. */
struct recovery {
	struct store_log log;
	struct segment **segments; /* with the spares */
	size_t count;
	size_t tail; /* which of them */
	uint64_t head;
	uint64_t synced;    /* known to be on disk */
	uint64_t newest_us; /* the newest time in the log; 0: none */
};

/*
 * Reads the directory, makes what is missing, writes down what was found and that a run has begun.
 * Stored segments are left without a mapping. `max_entries`: of new files. 0, and *recovery is the
 * caller's to free; or -1 (`error`), and it is empty.
 * Thread: startup.
 */
int recover(struct store *store, const struct log_options *options, uint32_t max_entries,
            struct recovery *recovery, char *error, size_t error_size);
/* Whether recover() would have a log from the directory; nothing is changed. 0 or -1 (`error`).
 * Thread: startup. */
int recover_try(struct store *store, char *error, size_t error_size);
/* How the run that wrote this ended. Thread: startup. */
enum ending recover_ending(const struct store *store, const struct store_log *log);
/* Releases the array, and the segments when they are still in it. Thread: startup. */
void recovery_free(struct recovery *recovery);

#endif
