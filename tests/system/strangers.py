# SPDX-License-Identifier: MIT
"""Strangers: plain sockets in numbers, from several addresses, that do what no client would."""

import socket


def connect_many(broker, count, first="127.0.8.1"):
    """Plain sockets; from several addresses, so that ports do not run out."""
    host, port = broker.address.rsplit(":", 1)
    prefix = first.rsplit(".", 1)[0]
    socks = []
    for n in range(count):
        sock = socket.socket()
        sock.bind((f"{prefix}.{1 + n % 200}", 0))
        sock.connect((host, int(port)))
        sock.setblocking(False)
        socks.append(sock)
    return socks


def close_all(socks):
    for sock in socks:
        sock.close()


def ask_each_worker(broker):
    """Returns when every worker has read what was sent before: connections go to them in turn."""
    for client in [broker.client() for _ in range(2 * broker.stats()["workers"])]:
        for _ in range(3):
            client.ask("PING")
        client.close()


def push(broker, socks, data, most):
    """Sends the data again and again on each socket, reads nothing, until none takes more or each
    has taken `most` bytes; returns what each has taken."""
    taken = [0] * len(socks)
    quiet = 0
    while quiet < 3:
        moved = False
        for n, sock in enumerate(socks):
            while taken[n] < most:
                try:
                    taken[n] += sock.send(data[taken[n] % len(data):])
                    moved = True
                except BlockingIOError:
                    break
                except ConnectionError:  # psad has closed it
                    taken[n] = most
        quiet = 0 if moved else quiet + 1
        ask_each_worker(broker)
    return taken


def said(sock):
    """What can be read from a plain socket now; None while there is nothing."""
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""
