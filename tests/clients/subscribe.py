#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Follow topics of a psad broker; write each payload and a line feed to standard output.

    subscribe.py [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]

--after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
--count N         end after N messages

The position of the last complete message is kept. When the connection is lost, the program
connects again and goes on exactly behind it; what is gone for good is reported as a gap.
"""
import argparse
import os
import socket
import sys
import time


class Subscriber:
    def __init__(self, patterns, position, count):
        self.patterns = patterns
        self.position = position  # b"<id>@<log>": all up to here was written; b"": from now on
        self.log = b""            # the part behind the @
        self.left = count         # messages still wanted; 0 = no limit
        self.is_done = False
        self.pause = 0.1          # seconds before the next try to connect
        self.payloads = []        # to be written

    def run(self, host, port):
        while not self.is_done:
            try:
                with socket.create_connection((host, port)) as sock:
                    # A server that vanished (power, network) is noticed by keepalive.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    self.follow(sock)
            except OSError as error:
                say(f"connection: {error}")
            if not self.is_done:
                say(f"connecting again in {self.pause} s")
                time.sleep(self.pause)
                self.pause = min(2 * self.pause, 5.0)

    def follow(self, sock):
        start = [b"AFTER", self.position] if self.position else []
        sock.sendall(b" ".join([b"SUB", *self.patterns, *start]) + b"\n")
        self.is_subscribed = False
        unread = bytearray()
        while not self.is_done and (received := sock.recv(1 << 18)):
            unread += received
            del unread[: self.take(unread)]
            self.flush()

    def take(self, data):
        """Take all that is complete from the front of data; return the number of bytes taken."""
        taken = 0
        while not self.is_done and (eol := data.find(b"\n", taken)) >= 0:
            words = data[taken:eol].split()
            end = eol + 1
            if words and words[0] == b"MSG":  # MSG <id> <topic> <nbytes>
                end += int(words[3]) + 1
                if end > len(data):
                    break  # the payload has not arrived completely
                self.payloads.append(data[eol + 1 : end])  # with the line feed behind it
                self.position = words[1] + b"@" + self.log
                self.left -= 1
                self.is_done = self.left == 0
            elif words:
                self.take_line(words)
            taken = end
        return taken

    def take_line(self, words):
        kind, text = words[0], b" ".join(words).decode(errors="replace")
        if kind == b"OK":  # OK <position>
            self.position = words[1]
            self.log = words[1].split(b"@")[1]
            self.is_subscribed = True
            self.pause = 0.1
            say(f"subscribed {self.position.decode()}")
        elif kind == b"GAP":  # GAP <from> <to> <reason>: these ids will not come
            self.position = words[2] + b"@" + self.log
            say(text)
        elif kind == b"PONG":  # PONG <position>: all that matches up to there has come
            self.position = words[1]
        elif kind == b"BYE":  # BYE <reason> <position>: ours if we were subscribed, then it closes
            if self.is_subscribed:
                self.position = words[2]
            say(text)
        elif kind == b"ERR":  # ERR <code> <text>: two codes pass, trying again helps no other
            say(text)
            if words[1] not in (b"too-many", b"shutting-down"):
                self.flush()
                sys.exit(1)
        # A word or a kind of line that we do not know is not for us.

    def flush(self):
        try:
            sys.stdout.buffer.write(b"".join(self.payloads))
            sys.stdout.buffer.flush()
        except OSError as error:
            say(f"standard output: {error}")
            os._exit(1)
        self.payloads.clear()


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description="Follow topics of a psad broker.")
    parser.add_argument("--after", metavar="POSITION", default="")
    parser.add_argument("--count", metavar="N", type=int, default=0)
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("port", metavar="PORT", type=int)
    parser.add_argument("patterns", metavar="PATTERN", nargs="+")
    args = parser.parse_args()
    patterns = [os.fsencode(pattern) for pattern in args.patterns]
    Subscriber(patterns, os.fsencode(args.after), args.count).run(args.host, args.port)


if __name__ == "__main__":
    main()
