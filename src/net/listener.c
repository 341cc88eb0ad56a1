/* SPDX-License-Identifier: MIT */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/address.h"

/* ---- where it is ---- */

static const struct sockaddr_un *as_unix(const struct sockaddr_storage *address)
{
	return (const struct sockaddr_un *)(const void *)address;
}

/* The path of a Unix socket, "" where it has none or an abstract name. */
static const char *path_of(const struct listener *listener)
{
	return listener->is_unix ? as_unix(&listener->address)->sun_path : "";
}

static void name_unix(struct listener *listener)
{
	const struct sockaddr_un *address = as_unix(&listener->address);
	size_t used = listener->length > offsetof(struct sockaddr_un, sun_path)
	                      ? listener->length - offsetof(struct sockaddr_un, sun_path)
	                      : 0;

	if (used == 0)
		snprintf(listener->text, sizeof listener->text, "unix:(no name)");
	else if (address->sun_path[0] == '\0')
		snprintf(listener->text, sizeof listener->text, "unix:@%.*s", (int)used - 1,
		         address->sun_path + 1);
	else
		snprintf(listener->text, sizeof listener->text, "unix:%.*s", (int)used,
		         address->sun_path);
}

bool listener_is_at(const struct listener *listener, const struct sockaddr *address)
{
	if (address->sa_family == AF_INET && listener->is_dual) {
		const struct sockaddr_in *one = (const struct sockaddr_in *)(const void *)address;
		const struct sockaddr_in6 *other =
			(const struct sockaddr_in6 *)(const void *)&listener->address;
		return one->sin_port == other->sin6_port && one->sin_addr.s_addr == INADDR_ANY;
	}
	if (listener->address.ss_family != address->sa_family)
		return false;
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *one = (const struct sockaddr_in *)(const void *)address;
		const struct sockaddr_in *other =
			(const struct sockaddr_in *)(const void *)&listener->address;
		return one->sin_port == other->sin_port &&
		       one->sin_addr.s_addr == other->sin_addr.s_addr;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *one = (const struct sockaddr_in6 *)(const void *)address;
		const struct sockaddr_in6 *other =
			(const struct sockaddr_in6 *)(const void *)&listener->address;
		return one->sin6_port == other->sin6_port &&
		       one->sin6_scope_id == other->sin6_scope_id &&
		       memcmp(&one->sin6_addr, &other->sin6_addr, sizeof one->sin6_addr) == 0;
	}
	return false;
}

bool listener_is_at_path(const struct listener *listener, const char *path)
{
	return path[0] != '\0' && strcmp(path_of(listener), path) == 0;
}

/* ---- opening ---- */

int listener_open_tcp(struct listener *listener, const struct sockaddr *address, socklen_t length,
                      int backlog)
{
	struct sockaddr_storage bound;
	socklen_t bound_length = sizeof bound;
	const int yes = 1;

	*listener = (struct listener){.length = length};
	memcpy(&listener->address, address, length);
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (address->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
	if (bind(fd, address, length) != 0 || listen(fd, backlog) != 0 ||
	    getsockname(fd, (struct sockaddr *)&bound, &bound_length) != 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	address_write(&bound, listener->text, sizeof listener->text);
	listener->fd = fd;
	return 0;
}

/* Whether somebody answers at a Unix socket's path. */
static bool is_alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;
	int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
	bool is_refused = result != 0 && errno == ECONNREFUSED;
	close(fd);
	return !is_refused;
}

/* Never wider than `mode`, not even for a moment: the umask is set before the path exists. */
static int bind_unix(int fd, const struct sockaddr_un *address, unsigned mode)
{
	mode_t before = umask(0777 & ~mode);
	int error = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : -errno;
	umask(before);
	return error;
}

int listener_open_unix(struct listener *listener, const char *path, unsigned mode, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;

	*listener = (struct listener){.is_unix = true, .length = sizeof address};
	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	memcpy(&listener->address, &address, sizeof address);
	snprintf(listener->text, sizeof listener->text, "unix:%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int error = bind_unix(fd, &address, mode);
	if (error == -EADDRINUSE && lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) &&
	    !is_alive(&address) && unlink(path) == 0)
		error = bind_unix(fd, &address, mode);
	if (error != 0) {
		close(fd);
		return error;
	}
	listener->fd = fd;
	if (lstat(path, &status) == 0) {
		listener->has_path = true;
		listener->device = status.st_dev;
		listener->inode = status.st_ino;
	}
	if (listen(fd, backlog) != 0) {
		error = -errno;
		listener_close(listener);
	}
	return error;
}

static bool get_int(int fd, int level, int name, int *out)
{
	socklen_t length = sizeof *out;
	return getsockopt(fd, level, name, out, &length) == 0;
}

static bool is_dual(int fd, const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
	int is_v6_only = 1;
	return address->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr) &&
	       get_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only) && is_v6_only == 0;
}

const char *listener_adopt(struct listener *listener, int fd, const char *name)
{
	int type = 0, family = 0, is_listening = 0;

	*listener = (struct listener){.is_handed_over = true, .length = sizeof listener->address};
	if (!get_int(fd, SOL_SOCKET, SO_TYPE, &type) ||
	    !get_int(fd, SOL_SOCKET, SO_DOMAIN, &family) ||
	    getsockname(fd, (struct sockaddr *)&listener->address, &listener->length) != 0)
		return "is no socket";
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return "is neither a TCP nor a Unix socket";
	if (type != SOCK_STREAM)
		return "is no stream socket (ListenStream=)";
	if (!get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening) || is_listening == 0)
		return "does not listen (Accept=no is needed)";
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return "can't be made non-blocking";
	listener->fd = fd;
	listener->is_unix = family == AF_UNIX;
	listener->is_dual = is_dual(fd, &listener->address);
	if (listener->is_unix)
		name_unix(listener);
	else
		address_write(&listener->address, listener->text, sizeof listener->text);
	snprintf(listener->name, sizeof listener->name, "%s", name);
	return NULL;
}

/* ---- changing ---- */

int listener_set_backlog(const struct listener *listener, int backlog)
{
	return listen(listener->fd, backlog) == 0 ? 0 : -errno;
}

/* Whether what is at the path is what we made: somebody may have put their own there. */
static bool is_ours(const struct listener *listener, struct stat *status)
{
	return listener->has_path && lstat(path_of(listener), status) == 0 &&
	       status->st_dev == listener->device && status->st_ino == listener->inode;
}

int listener_set_mode(const struct listener *listener, unsigned mode, unsigned *before)
{
	struct stat status;

	if (!is_ours(listener, &status))
		return -ENOENT;
	*before = status.st_mode & 07777;
	return chmod(path_of(listener), mode) == 0 ? 0 : -errno;
}

void listener_close(struct listener *listener)
{
	struct stat status;

	close(listener->fd);
	if (is_ours(listener, &status))
		unlink(path_of(listener));
	listener->fd = -1;
	listener->has_path = false;
}
