/* SPDX-License-Identifier: MIT */
/*
 * charter: what the file `log` of a directory says, which is what is true of the whole log.
 *
 *     psad log 1                      the format
 *     order 0807060504030201          how this machine writes 0x0102030405060708
 *     identity 3f9a12c4               the <log> of positions
 *     key afc0202998f4d605            of topic hashes and checksums; every segment names it too
 *     boot ae5a3538-ab94-...          of the run that last opened it to append; -: not known
 *     end open                        new, open or clean: see enum store_end
 *     head 0                          after a clean end: the newest id then
 *     check a31278c534b51bad          hash of all the above
 *
 * Thread: any.
 */
#ifndef PSAD_LOG_CHARTER_H
#define PSAD_LOG_CHARTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHARTER_MAX = 1024, CHARTER_FAULT_MAX = 128, STORE_BOOT_MAX = 64 };

struct store_log {
	uint32_t identity;         /* of positions: what clients see */
	uint64_t key;              /* of all hashes and checksums; every segment file names it */
	char boot[STORE_BOOT_MAX]; /* of the run that last opened it to append */
	enum store_end {
		STORE_NEW,   /* the first segment file may not be there yet */
		STORE_OPEN,  /* that run was appending; how it ended is not known */
		STORE_CLEAN, /* it ended in good order, and all was on disk */
	} end;
	uint64_t head; /* STORE_CLEAN: the newest id then */
};

/* Returns how many bytes were written to `text`, which has room for CHARTER_MAX. */
size_t charter_print(const struct store_log *log, char *text);
/* What the text, ended by NUL, says. It must be, to the byte, what charter_print() would have
 * written. 0 or -1. */
int charter_parse(const char *text, struct store_log *log);
/* Whether a text that was not taken may be right for another version of psad or another kind of
 * machine: it is not to be replaced then. */
bool charter_is_foreign(const char *text);
/* Why a text was not taken: written into `fault`, which has CHARTER_FAULT_MAX bytes, and returned.
 * It reads well behind "log: ". */
const char *charter_fault(const char *text, char *fault);

#endif
