#!/usr/bin/env node
// SPDX-License-Identifier: MIT
//
// Follow topics of a psad broker; write each payload and a line feed to standard output.
//
//     node subscribe.js [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]
//
// --after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
// --count N         end after N messages
//
// The position of the last complete message is kept. When the connection is lost, the program
// connects again and goes on exactly behind it; what is gone for good is reported as a gap.
'use strict';
const net = require('net');

const args = process.argv.slice(2);
const options = { '--after': '', '--count': '0' };
while (args.length > 1 && args[0] in options) options[args.shift()] = args.shift();
const [host, port, ...patterns] = args;
if (patterns.length === 0) {
  console.error('usage: subscribe.js [--after POSITION] [--count N] HOST PORT PATTERN...');
  process.exit(2);
}

let position = options['--after']; // '<id>@<log>': all up to here was written; '': from now on
let log = ''; // the part behind the @
let left = Number(options['--count']); // messages still wanted; 0 = no limit
let isDone = false;
let pause = 100; // milliseconds before the next try to connect

function connect() {
  const socket = net.connect(Number(port), host);
  let isSubscribed = false;
  let chunks = []; // what was received and not taken yet
  let have = 0; // its bytes
  let need = 1; // bytes without which nothing more can be taken

  // A server that vanished (power, network) is noticed by keepalive.
  socket.setKeepAlive(true, 60000);
  socket.on('connect', () => {
    const start = position ? ['AFTER', position] : [];
    socket.write(['SUB', ...patterns, ...start].join(' ') + '\n');
  });
  socket.on('data', (chunk) => {
    if (isDone) return;
    chunks.push(chunk);
    have += chunk.length;
    if (have < need) return;
    const data = Buffer.concat(chunks);
    const taken = take(data);
    chunks = [data.subarray(taken)];
    have = data.length - taken;
  });
  socket.on('error', (error) => console.error(`connection: ${error.message}`));
  socket.on('close', () => {
    if (isDone) return;
    console.error(`connecting again in ${pause / 1000} s`);
    setTimeout(connect, pause);
    pause = Math.min(2 * pause, 5000);
  });

  // Takes all that is complete from the front of data; returns the number of bytes taken.
  function take(data) {
    const payloads = [];
    let taken = 0;
    let eol;
    need = 1;
    while (!isDone && (eol = data.indexOf(10, taken)) >= 0) {
      const words = data.toString('latin1', taken, eol).split(' ');
      let end = eol + 1;
      if (words[0] === 'MSG') { // MSG <id> <topic> <nbytes>
        end += Number(words[3]) + 1;
        if (end > data.length) { // the payload has not arrived completely
          need = end - taken;
          break;
        }
        payloads.push(data.subarray(eol + 1, end)); // with the line feed behind it
        position = `${words[1]}@${log}`; // the id stays text: a Number is exact to 2^53 only
        left -= 1;
        isDone = left === 0;
      } else {
        takeLine(words);
      }
      taken = end;
    }
    write(payloads);
    return taken;
  }

  function takeLine(words) {
    const text = words.join(' ');
    switch (words[0]) {
      case 'OK': // OK <position>
        position = words[1];
        log = position.split('@')[1];
        isSubscribed = true;
        pause = 100;
        console.error(`subscribed ${position}`);
        break;
      case 'GAP': // GAP <from> <to> <reason>: these ids will not come
        position = `${words[2]}@${log}`;
        console.error(text);
        break;
      case 'PONG': // PONG <position>: all that matches up to there has come
        position = words[1];
        break;
      case 'BYE': // BYE <reason> <position>: ours if we were subscribed, then it closes
        if (isSubscribed) position = words[2];
        console.error(text);
        break;
      case 'ERR': // ERR <code> <text>: two codes pass, trying again helps no other
        console.error(text);
        if (words[1] !== 'too-many' && words[1] !== 'shutting-down') {
          isDone = true;
          process.exitCode = 1;
          socket.destroy();
        }
        break;
      default: // A word or a kind of line that we do not know is not for us.
    }
  }

  function write(payloads) {
    if (payloads.length > 0 && !process.stdout.write(Buffer.concat(payloads))) {
      socket.pause(); // until who reads us has caught up
      process.stdout.once('drain', () => socket.resume());
    }
    if (isDone) socket.destroy();
  }
}

process.stdout.on('error', (error) => {
  console.error(`standard output: ${error.message}`);
  process.exit(1);
});
connect();
