// SPDX-License-Identifier: MIT
//
// Follow topics of a psad broker; write each payload and a line feed to standard output.
//
//     java Subscribe.java [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]
//
// --after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
// --count N         end after N messages
//
// The position of the last complete message is kept. When the connection is lost, the program
// connects again and goes on exactly behind it; what is gone for good is reported as a gap.

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;

class Subscribe {
    private final List<String> patterns;
    private String position; // "<id>@<log>": all up to here was written; "": from now on
    private String log = ""; // the part behind the @
    private long left; // messages still wanted; 0 = no limit
    private boolean isDone;
    private boolean isSubscribed; // on this connection
    private long pauseMs = 100; // before the next try to connect
    private final ByteArrayOutputStream payloads = new ByteArrayOutputStream(); // to be written
    private final FileOutputStream out = new FileOutputStream(FileDescriptor.out);

    Subscribe(List<String> patterns, String position, long count) {
        this.patterns = patterns;
        this.position = position;
        this.left = count;
    }

    void run(String host, int port) throws InterruptedException {
        while (!isDone) {
            try (Socket socket = new Socket(host, port)) {
                socket.setKeepAlive(true); // a server that vanished (power, network) is noticed
                follow(socket);
            } catch (IOException e) {
                say("connection: " + e.getMessage());
            }
            if (!isDone) {
                say("connecting again in " + pauseMs / 1000.0 + " s");
                Thread.sleep(pauseMs);
                pauseMs = Math.min(2 * pauseMs, 5000);
            }
        }
    }

    private void follow(Socket socket) throws IOException {
        String start = position.isEmpty() ? "" : " AFTER " + position;
        String command = "SUB " + String.join(" ", patterns) + start + "\n";
        socket.getOutputStream().write(command.getBytes(UTF_8));
        isSubscribed = false;
        InputStream in = socket.getInputStream();
        byte[] data = new byte[1 << 18];
        int end = 0; // data[0 .. end - 1] was received and not taken yet
        int received;
        while (!isDone && (received = in.read(data, end, data.length - end)) > 0) {
            end += received;
            int taken = take(data, end);
            flush();
            end -= taken;
            System.arraycopy(data, taken, data, 0, end);
            if (end == data.length) {
                data = Arrays.copyOf(data, 2 * data.length);
            }
        }
    }

    /** Takes all that is complete from the front of the data; returns the number of bytes. */
    private int take(byte[] data, int end) {
        int taken = 0;
        int eol;
        while (!isDone && (eol = indexOfLineFeed(data, taken, end)) >= 0) {
            // One character is one byte here, whatever stands in a topic.
            String[] words = new String(data, taken, eol - taken, ISO_8859_1).split(" ");
            int next = eol + 1;
            if (words[0].equals("MSG")) { // MSG <id> <topic> <nbytes>
                int size = Integer.parseInt(words[3]);
                if (end - next < size + 1) {
                    break; // the payload has not arrived completely
                }
                payloads.write(data, next, size + 1); // with the line feed behind it
                next += size + 1;
                position = words[1] + "@" + log;
                left--;
                isDone = left == 0;
            } else {
                takeLine(words);
            }
            taken = next;
        }
        return taken;
    }

    private void takeLine(String[] words) {
        String text = String.join(" ", words);
        switch (words[0]) {
            case "OK": // OK <position>
                position = words[1];
                log = position.substring(position.indexOf('@') + 1);
                isSubscribed = true;
                pauseMs = 100;
                say("subscribed " + position);
                break;
            case "GAP": // GAP <from> <to> <reason>: these ids will not come
                position = words[2] + "@" + log;
                say(text);
                break;
            case "PONG": // PONG <position>: all that matches up to there has come
                position = words[1];
                break;
            case "BYE": // BYE <reason> <position>: ours if we were subscribed, then it closes
                if (isSubscribed) {
                    position = words[2];
                }
                say(text);
                break;
            case "ERR": // ERR <code> <text>: two codes pass, trying again helps no other
                say(text);
                if (!words[1].equals("too-many") && !words[1].equals("shutting-down")) {
                    flush();
                    System.exit(1);
                }
                break;
            default: // A word or a kind of line that we do not know is not for us.
        }
    }

    private void flush() {
        try {
            payloads.writeTo(out);
            payloads.reset();
        } catch (IOException e) {
            say("standard output: " + e.getMessage());
            System.exit(1);
        }
    }

    private static int indexOfLineFeed(byte[] data, int from, int end) {
        for (int i = from; i < end; i++) {
            if (data[i] == '\n') {
                return i;
            }
        }
        return -1;
    }

    private static void say(String text) {
        System.err.println(text);
    }

    public static void main(String[] argv) throws InterruptedException {
        Deque<String> args = new ArrayDeque<>(List.of(argv));
        String after = "";
        long count = 0;
        while (args.size() > 1 && args.peek().startsWith("--")) {
            switch (args.pop()) {
                case "--after": after = args.pop(); break;
                case "--count": count = Long.parseLong(args.pop()); break;
                default: args.clear();
            }
        }
        if (args.size() < 3) {
            say("usage: Subscribe [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]");
            System.exit(2);
        }
        String host = args.pop();
        int port = Integer.parseInt(args.pop());
        new Subscribe(List.copyOf(args), after, count).run(host, port);
    }
}
