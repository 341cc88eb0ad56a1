/* SPDX-License-Identifier: MIT */
/*
 * rewrite: another content in the place of a file, in one step.
 *
 * What is to be different is made so in a copy, which is synced and then gets the name: however
 * this is cut short, the name stands for the whole file as it was or as it is to be. Nothing that
 * is there is written to. What was there can be kept under a name of its own, <name>.damaged (or
 * .2.damaged and so on where that is taken): a second name of the same file, so that keeping costs
 * neither time nor room; a copy where the file system has no such thing.
 *
 * Functions return a negative errno when they fail, and leave what was there. Thread: startup.
 */
#ifndef PSAD_LOG_REWRITE_H
#define PSAD_LOG_REWRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/store.h"

/* What is to be in the place of a segment's file. */
struct rewrite {
	uint64_t number;
	size_t size;
	bool is_new;     /* it begins as zeros, not as a copy */
	bool is_patient; /* what can't be read, or is not there, is zeros; else it fails */
	bool keeps;      /* what was there, if anything was, gets another name */
	/* Makes it what it is to be, in its mapping. */
	void (*patch)(char *map, void *context);
	void *context;
};

/* Returns the new file's descriptor, for reading and writing. */
int rewrite_file(struct store *store, const struct rewrite *rewrite);

/* Gives a file of the directory its other name too; that there is none is fine. 0. */
int rewrite_keep(struct store *store, const char *name);

/* Takes a segment's name away from a file, which keeps the other one. 0. */
int rewrite_put_aside(struct store *store, uint64_t number);

#endif
