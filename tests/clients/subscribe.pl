#!/usr/bin/env perl
# SPDX-License-Identifier: MIT
#
# Follow topics of a psad broker; write each payload and a line feed to standard output.
#
#     subscribe.pl [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]
#
# --after POSITION  begin behind it: <id>@<log>, or 0 for everything kept (else: from now on)
# --count N         end after N messages
#
# The position of the last complete message is kept. When the connection is lost, the program
# connects again and goes on exactly behind it; what is gone for good is reported as a gap.
use strict;
use warnings;
use IO::Socket::IP;
use Socket qw(MSG_NOSIGNAL SOL_SOCKET SO_KEEPALIVE);

my %option = ('--after' => '', '--count' => 0);
while (@ARGV > 1 && exists $option{$ARGV[0]}) {
    my $name = shift;
    $option{$name} = shift;
}
my ($host, $port, @patterns) = @ARGV;
die "usage: $0 [--after POSITION] [--count N] HOST PORT PATTERN [PATTERN...]\n" unless @patterns;

my $position = $option{'--after'};   # "<id>\@<log>": all up to here was written; "": from now on
my $log = '';                        # the part behind the @
my $left = $option{'--count'};       # messages still wanted; 0 = no limit
my $is_done = 0;
my $is_subscribed;                   # on this connection
my $pause = 0.1;                     # seconds before the next try to connect
my $payloads = '';                   # to be written

binmode STDOUT;
$| = 1;
until ($is_done) {
    my $socket = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Proto => 'tcp');
    if ($socket) {
        follow($socket);
        close $socket;
    } else {
        warn "connection: $@\n";
    }
    next if $is_done;
    warn "connecting again in $pause s\n";
    select undef, undef, undef, $pause;
    $pause = $pause < 2.5 ? 2 * $pause : 5;
}

sub follow {
    my ($socket) = @_;
    my $unread = '';
    $is_subscribed = 0;
    # A server that vanished (power, network) is noticed by keepalive.
    $socket->setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1);
    my $command = join ' ', 'SUB', @patterns, $position ne '' ? ('AFTER', $position) : ();
    send $socket, "$command\n", MSG_NOSIGNAL;
    while (!$is_done) {
        my $received = sysread $socket, $unread, 1 << 18, length $unread;
        warn "connection: $!\n" unless defined $received;
        return unless $received;
        substr $unread, 0, take(\$unread), '';
        flush_payloads();
    }
}

# Takes all that is complete from the front of the data; returns the number of bytes taken.
sub take {
    my ($data) = @_;
    my $taken = 0;
    my $eol;
    while (!$is_done && ($eol = index $$data, "\n", $taken) >= 0) {
        my @words = split / +/, substr $$data, $taken, $eol - $taken;
        my $end = $eol + 1;
        if (@words && $words[0] eq 'MSG') {             # MSG <id> <topic> <nbytes>
            $end += $words[3] + 1;
            last if $end > length $$data;               # the payload has not arrived completely
            $payloads .= substr $$data, $eol + 1, $end - $eol - 1;    # with the line feed behind it
            $position = "$words[1]\@$log";
            $is_done = 1 if --$left == 0;
        } elsif (@words) {
            take_line(@words);
        }
        $taken = $end;
    }
    return $taken;
}

sub take_line {
    my @words = @_;
    my $kind = $words[0];
    if ($kind eq 'OK') {            # OK <position>
        $position = $words[1];
        (undef, $log) = split /@/, $position;
        $is_subscribed = 1;
        $pause = 0.1;
        warn "subscribed $position\n";
    } elsif ($kind eq 'GAP') {      # GAP <from> <to> <reason>: these ids will not come
        $position = "$words[2]\@$log";
        warn "@words\n";
    } elsif ($kind eq 'PONG') {     # PONG <position>: all that matches up to there has come
        $position = $words[1];
    } elsif ($kind eq 'BYE') {      # BYE <reason> <position>: ours if we were subscribed
        $position = $words[2] if $is_subscribed;
        warn "@words\n";
    } elsif ($kind eq 'ERR') {      # ERR <code> <text>: two codes pass, trying again helps no other
        warn "@words\n";
        if ($words[1] ne 'too-many' && $words[1] ne 'shutting-down') {
            flush_payloads();
            exit 1;
        }
    }
    # A word or a kind of line that we do not know is not for us.
}

sub flush_payloads {
    print $payloads or die "standard output: $!\n";
    $payloads = '';
}
