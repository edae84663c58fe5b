# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""How exactly a rate is kept, as the server saw it: each read has its time in the log of nbdkit's log filter."""
import json
import os

import reads
from contender import NoOutput
from contests import OURS, ServedContest
from servers import Nbdkit

MIB = 1 << 20
SECONDS = 10      # over which the mean is judged
SLOW, USUAL = 2, 20  # MiB/s
BURST = 0.1       # seconds of the rate
KILL_AFTER, WATCH_AFTER = 12, 5
TWO_MEMBERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "two_members.py")
FAR, FREE = "nasbackup --rate 100G", OURS


def off(measured, wanted):
    """How far from what was wanted, in per cent."""
    return abs(measured / wanted - 1) * 100


class LoggedReader(NoOutput):
    """`nasbackup convert` with a limit from a server that writes down what is read."""

    def __init__(self, binary, uri, log, mebibytes):
        super().__init__(f"nasbackup --rate {mebibytes}M",
                         lambda out: [[binary, "convert", "--json", "--progress=none", "-b", f"{mebibytes}M", uri, "null:"]], None)
        self.log, self.rate = log, mebibytes * MIB

    def before(self, place):
        os.truncate(self.log, 0)
        return {}

    def after(self, place):
        seen = reads.read_log(self.log)
        if not seen:
            return {}
        begin = seen[0][0]
        mean = reads.bytes_between(seen, begin, begin + SECONDS) / SECONDS
        most = reads.busiest(seen, 1) / (self.rate * (1.1 + BURST))
        return {"mean_off": off(mean, self.rate), "busiest_second": most}


class Limit(ServedContest):
    row = "limit"
    warm_rounds = 0
    mebibytes = USUAL

    def start(self):
        self.title = f"a limit of {self.mebibytes} MiB/s, at the server"
        log = os.path.join(self.house.work, self.name + ".log")
        uri = self.serve("--filter=log", "pattern", f"{int(self.mebibytes * (SECONDS + 1))}M", "logfile=" + log)
        self.contenders = [LoggedReader(self.house.binary, uri, log, self.mebibytes)]


class SlowLimit(Limit):
    mebibytes = SLOW


class FarLimit(ServedContest):
    """What a limit costs that is never reached."""

    row = "limit"
    title = "a limit far above the speed, nbdkit pattern → nothing"

    def start(self):
        uri = self.serve("pattern", f"{max(64 * MIB, 2 * self.house.data)}")
        command = [self.house.binary, "convert", "--json", "--progress=none", "--priority=normal"]
        self.contenders = [NoOutput(FAR, lambda out: [[*command, "--rate", "100G", uri, "null:"]], None),
                           NoOutput(FREE, lambda out: [[*command, uri, "null:"]], None)]


class Members(NoOutput):
    """Two members of a rate group, of which one is killed."""

    def __init__(self, binary, uris, logs, mebibytes):
        arguments = json.dumps({"binary": binary, "uris": uris, "rate": f"{mebibytes}M", "kill_after": KILL_AFTER, "watch_after": WATCH_AFTER})
        super().__init__(f"two members of a group, {mebibytes} MiB/s", lambda out: [["/usr/bin/python3", TWO_MEMBERS, arguments, out]], None)
        self.logs, self.rate = logs, mebibytes * MIB

    def before(self, place):
        for log in self.logs:
            os.truncate(log, 0)
        return {}

    def after(self, place):
        with open(os.path.join(place, self.output)) as told:
            killed = json.load(told)["killed"]
        one, other = (reads.read_log(log) for log in self.logs)
        begin = max(one[0][0], other[0][0]) + 0.5
        shares = [reads.bytes_between(seen, begin, begin + SECONDS) / SECONDS for seen in (one, other)]
        watched = WATCH_AFTER - 2
        left = reads.bytes_between(other, killed + 1, killed + 1 + watched) / watched
        return {"sum_off": off(sum(shares), self.rate), "share_off": off(shares[0], self.rate / 2), "takeover_off": off(left, self.rate)}


class GroupOfTwo(ServedContest):
    row = "limit"
    title = "a rate group of two, at the servers; one is killed"
    warm_rounds = 0

    def start(self):
        names = ("one", "other")
        logs = [os.path.join(self.house.work, f"group-{name}.log") for name in names]
        size = f"{USUAL * (KILL_AFTER + WATCH_AFTER + 10)}M"
        self.servers = [Nbdkit(self.house.work, f"group-{name}", ["--filter=log", "pattern", size, "logfile=" + log])
                        for name, log in zip(names, logs)]
        for server in self.servers:
            server.start()
        self.contenders = [Members(self.house.binary, [server.uri for server in self.servers], logs, USUAL)]

    def stop(self):
        for server in getattr(self, "servers", []):
            server.stop()
