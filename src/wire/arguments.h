/* SPDX-License-Identifier: MIT */
/*
 * arguments: what stands behind the verb of a command that is one line and nothing else, that is
 * all of them but PUB and PUT (command.c). Used by the command parser alone.
 *
 * Pure functions of their arguments. Thread: any.
 */
#ifndef PSAD_WIRE_ARGUMENTS_H
#define PSAD_WIRE_ARGUMENTS_H

#include "wire/command.h"

/* Why a command is refused; `text` is static, plain, without the client's bytes. */
struct fault {
	enum error_code code;
	const char *text;
};

/*
 * Reads the words of `rest` into *command, whose verb says what they are; its other fields are
 * zero. False when they are refused: then *fault says why, for the first bad word from the left.
 */
bool arguments_parse(struct slice rest, struct command *command, struct fault *fault);

#endif
