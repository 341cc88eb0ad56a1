// SPDX-License-Identifier: MIT

// Follow topics of a psad broker; write each payload and a line feed to standard output.
//
//	go run subscribe.go [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]
//
// --after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
// --count N         end after N messages
//
// The position of the last complete message is kept. When the connection is lost, the program
// connects again and goes on exactly behind it; what is gone for good is reported as a gap.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

var errDone = errors.New("all messages are here")

type subscriber struct {
	patterns     []string
	position     string // "<id>@<log>": all up to here was written; "": from now on
	log          string // the part behind the @
	left         int    // messages still wanted; 0 = no limit
	isSubscribed bool   // on this connection
	pause        time.Duration
	payload      []byte
	out          *bufio.Writer
}

// flushFirst writes what is waiting whenever the connection is about to be waited for.
type flushFirst struct {
	*subscriber
	conn net.Conn
}

func (f flushFirst) Read(buffer []byte) (int, error) {
	f.flush()
	return f.conn.Read(buffer)
}

func (s *subscriber) run(address string) {
	for {
		err := s.connect(address)
		s.flush()
		if err == errDone {
			return
		}
		say("connection: %v; connecting again in %v", err, s.pause)
		time.Sleep(s.pause)
		s.pause = min(2*s.pause, 5*time.Second)
	}
}

// connect follows until the connection ends and returns why; never nil.
func (s *subscriber) connect(address string) error {
	conn, err := net.Dial("tcp", address) // with keepalive: a server that vanished is noticed
	if err != nil {
		return err
	}
	defer conn.Close()
	command := "SUB " + strings.Join(s.patterns, " ")
	if s.position != "" {
		command += " AFTER " + s.position
	}
	if _, err = conn.Write([]byte(command + "\n")); err != nil {
		return err
	}
	s.isSubscribed = false
	in := bufio.NewReaderSize(flushFirst{s, conn}, 1<<18)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		// Only the space separates words; strings.Fields would cut at more.
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if words[0] == "MSG" {
			err = s.takeMessage(in, words)
		} else {
			s.takeLine(words)
		}
		if err != nil {
			return err
		}
	}
}

// takeMessage: MSG <id> <topic> <nbytes>, and behind it the payload and a line feed.
func (s *subscriber) takeMessage(in io.Reader, words []string) error {
	size, err := strconv.Atoi(words[3])
	if err != nil {
		return err
	}
	if cap(s.payload) < size+1 {
		s.payload = make([]byte, size+1)
	}
	s.payload = s.payload[:size+1]
	if _, err = io.ReadFull(in, s.payload); err != nil {
		return err
	}
	s.out.Write(s.payload) // an error stays in s.out until flush
	s.position = words[1] + "@" + s.log
	if s.left--; s.left == 0 {
		return errDone
	}
	return nil
}

func (s *subscriber) takeLine(words []string) {
	text := strings.Join(words, " ")
	switch words[0] {
	case "OK": // OK <position>
		s.position = words[1]
		s.log = words[1][strings.IndexByte(words[1], '@')+1:]
		s.isSubscribed = true
		s.pause = 100 * time.Millisecond
		say("subscribed %s", s.position)
	case "GAP": // GAP <from> <to> <reason>: these ids will not come
		s.position = words[2] + "@" + s.log
		say("%s", text)
	case "PONG": // PONG <position>: all that matches up to there has come
		s.position = words[1]
	case "BYE": // BYE <reason> <position>: ours if we were subscribed, then it closes
		if s.isSubscribed {
			s.position = words[2]
		}
		say("%s", text)
	case "ERR": // ERR <code> <text>: two codes pass, trying again helps no other
		say("%s", text)
		if words[1] != "too-many" && words[1] != "shutting-down" {
			s.flush()
			os.Exit(1)
		}
	}
	// A word or a kind of line that we do not know is not for us.
}

func (s *subscriber) flush() {
	if err := s.out.Flush(); err != nil {
		say("standard output: %v", err)
		os.Exit(1)
	}
}

func say(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

func main() {
	after := flag.String("after", "", "position to begin behind")
	count := flag.Int("count", 0, "messages to end after")
	flag.Usage = func() {
		say("usage: subscribe [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]")
	}
	flag.Parse()
	args := flag.Args()
	if len(args) < 3 {
		flag.Usage()
		os.Exit(2)
	}
	s := &subscriber{patterns: args[2:], position: *after, left: *count,
		pause: 100 * time.Millisecond, out: bufio.NewWriterSize(os.Stdout, 1<<16)}
	s.run(net.JoinHostPort(args[0], args[1]))
}
