/* SPDX-License-Identifier: MIT */
#include "listening.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/diag.h"

/* ---- sockets handed over ---- */

/* NULL, or the whole sentence is in `error`. */
static struct listener *adopt(struct acceptor *acceptor, const struct manager_socket *socket,
                              char *error, size_t error_size)
{
	struct listener listener;
	const char *fault = listener_adopt(&listener, socket->fd, socket->name);

	if (fault != NULL) {
		snprintf(error, error_size, "descriptor %d (%s), which was handed over, %s",
		         socket->fd, socket->name, fault);
		return NULL;
	}
	struct listener *added = acceptor_add(acceptor, &listener);
	if (added == NULL)
		snprintf(error, error_size, "%s (%s), which was handed over: %s", listener.text,
		         listener.name, strerror(ENOMEM));
	return added;
}

int listening_adopt(struct acceptor *acceptor, struct manager_sockets *sockets, char *error,
                    size_t error_size)
{
	for (size_t i = 0; i < sockets->count; i++) {
		const struct listener *listener =
			adopt(acceptor, &sockets->at[i], error, error_size);
		if (listener == NULL)
			return -1;
		sockets->at[i].fd = -1;
		diag(DIAG_NOTICE, "listening on %s, handed over as %s", listener->text,
		     listener->name);
	}
	return 0;
}

/* ---- what is wanted ---- */

static bool has_handed_over(const struct acceptor *acceptor)
{
	const struct listener *listener;

	for (size_t i = 0; (listener = acceptor_listener(acceptor, i)) != NULL; i++)
		if (listener->is_handed_over)
			return true;
	return false;
}

static bool wants_tcp(const struct acceptor *acceptor, const struct config *config)
{
	return !config->listen_tcp_is_default || !has_handed_over(acceptor);
}

/* One at the address that is not spoken for yet; those handed over come first, for all who ask. */
static struct listener *find_tcp(struct acceptor *acceptor, const struct sockaddr *address)
{
	struct listener *listener, *own = NULL;

	for (size_t i = 0; (listener = acceptor_listener(acceptor, i)) != NULL; i++) {
		if (!listener_is_at(listener, address))
			continue;
		if (listener->is_handed_over)
			return listener;
		if (own == NULL && !listener->is_wanted)
			own = listener;
	}
	return own;
}

static struct listener *find_unix(struct acceptor *acceptor, const char *path)
{
	struct listener *listener;

	for (size_t i = 0; (listener = acceptor_listener(acceptor, i)) != NULL; i++)
		if (listener_is_at_path(listener, path))
			return listener;
	return NULL;
}

static int check_handed_over(const struct acceptor *acceptor, const struct config *config,
                             char *error, size_t error_size)
{
	const struct listener *listener;

	for (size_t i = 0; (listener = acceptor_listener(acceptor, i)) != NULL; i++) {
		const struct sockaddr *address =
			(const struct sockaddr *)(const void *)&listener->address;
		if (!listener->is_handed_over || config->listen_insecure ||
		    value_address_is_local(address))
			continue;
		snprintf(error, error_size,
		         "%s, handed over as %s, lets other machines in, and there is no "
		         "authentication: it needs listen.insecure = yes",
		         listener->text, listener->name);
		return -1;
	}
	return 0;
}

/* ---- a change ---- */

/* Takes over what was opened. */
static int add_opened(struct listening_change *change, struct listener *listener)
{
	struct listener *added = acceptor_add(change->acceptor, listener);

	if (added == NULL) {
		listener_close(listener);
		return -ENOMEM;
	}
	added->is_wanted = true;
	assert(change->opened_count < LISTENING_MAX);
	change->opened[change->opened_count++] = added;
	return 0;
}

/* One address. 0 or a negative errno. */
static int want_tcp(struct listening_change *change, const struct config_address *wanted)
{
	const struct sockaddr *address = (const struct sockaddr *)(const void *)&wanted->address;
	struct listener *there = find_tcp(change->acceptor, address);
	struct listener listener;

	if (there != NULL) {
		there->is_wanted = true;
		return 0;
	}
	int error = listener_open_tcp(&listener, address, wanted->length, change->backlog);
	if (error == 0)
		return add_opened(change, &listener);
	bool is_missing = error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT;
	if (!is_missing || !wanted->may_be_missing)
		return error;
	change->skipped[change->skipped_count++] = wanted->text;
	return 0;
}

static int want_unix(struct listening_change *change, const struct config *config)
{
	struct listener *there = find_unix(change->acceptor, config->listen_unix);
	struct listener listener;

	if (there == NULL) {
		int error = listener_open_unix(&listener, config->listen_unix,
		                               config->listen_unix_mode, change->backlog);
		return error == 0 ? add_opened(change, &listener) : error;
	}
	there->is_wanted = true;
	if (there->is_handed_over)
		return 0;
	/* The last thing that may fail. */
	int error = listener_set_mode(there, config->listen_unix_mode, &change->mode_before);
	change->changed_mode = error == 0 ? there : NULL;
	return error;
}

static int open_all(struct listening_change *change, const struct config *config, char *error,
                    size_t error_size)
{
	for (size_t i = 0; i < config->listen_tcp_count && wants_tcp(change->acceptor, config);
	     i++) {
		int result = want_tcp(change, &config->listen_tcp[i]);
		if (result == 0)
			continue;
		snprintf(error, error_size, "listen.tcp: %s: %s", config->listen_tcp[i].text,
		         strerror(-result));
		return -1;
	}
	if (config->listen_unix == NULL)
		return 0;
	int result = want_unix(change, config);
	if (result != 0)
		snprintf(error, error_size, "listen.unix: %s: %s", config->listen_unix,
		         strerror(-result));
	return result == 0 ? 0 : -1;
}

/* Those of ours that nobody wants any more. Returns how many are left. */
static size_t sort_out(struct listening_change *change)
{
	struct listener *listener;
	size_t kept = 0;

	for (size_t i = 0; (listener = acceptor_listener(change->acceptor, i)) != NULL; i++) {
		if (listener->is_wanted || listener->is_handed_over) {
			kept++;
			continue;
		}
		assert(change->unwanted_count < LISTENING_MAX);
		change->unwanted[change->unwanted_count++] = listener;
	}
	return kept;
}

int listening_prepare(struct listening_change *change, struct acceptor *acceptor,
                      const struct config *config, char *error, size_t error_size)
{
	struct listener *listener;

	*change = (struct listening_change){.acceptor = acceptor,
	                                    .backlog = (int)config->listen_backlog};
	for (size_t i = 0; (listener = acceptor_listener(acceptor, i)) != NULL; i++)
		listener->is_wanted = false;
	if (check_handed_over(acceptor, config, error, error_size) != 0 ||
	    open_all(change, config, error, error_size) != 0) {
		listening_drop(change);
		return -1;
	}
	if (sort_out(change) == 0) {
		snprintf(error, error_size, "%s",
		         config_listens(config)
		                 ? "listen.tcp: none of the addresses is there"
		                 : "listen.tcp and listen.unix are both empty: there is nothing "
		                   "to listen on");
		listening_drop(change);
		return -1;
	}
	return 0;
}

void listening_make(struct listening_change *change)
{
	struct listener *listener;

	for (size_t i = 0; i < change->opened_count; i++)
		diag(DIAG_NOTICE, "listening on %s", change->opened[i]->text);
	for (size_t i = 0; i < change->skipped_count && change->opened_count > 0; i++)
		diag(DIAG_NOTICE, "not listening on %s: this machine does not have it",
		     change->skipped[i]);
	for (size_t i = 0; i < change->unwanted_count; i++) {
		diag(DIAG_NOTICE, "no longer listening on %s", change->unwanted[i]->text);
		acceptor_remove(change->acceptor, change->unwanted[i]);
	}
	for (size_t i = 0; (listener = acceptor_listener(change->acceptor, i)) != NULL; i++)
		if (!listener->is_handed_over &&
		    listener_set_backlog(listener, change->backlog) != 0)
			diag(DIAG_WARNING, "listen.backlog: %s keeps what it had", listener->text);
}

void listening_drop(struct listening_change *change)
{
	unsigned mode;

	if (change->changed_mode != NULL)
		(void)listener_set_mode(change->changed_mode, change->mode_before, &mode);
	for (size_t i = 0; i < change->opened_count; i++)
		acceptor_remove(change->acceptor, change->opened[i]);
	change->opened_count = 0;
}
