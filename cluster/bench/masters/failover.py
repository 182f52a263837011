#!/usr/bin/env python3
"""How long nothing can be written after the leader is killed: our masters, then etcd as it ships and with short timers.

The last line of standard output is one JSON object; cluster/bench/masters/README.md says what its keys mean.
Exits 1 where a side could not be measured: its figures are null then."""
import argparse
import base64
import http.client
import json
import queue
import random
import sys
import threading
import time

import etcd
import measuring
from measuring import median, rounded, shown

TIMERS = {"default": (100, 1000), "fast": (20, 200)}
GOALS = {"first_write_ms_p50": 300, "first_write_ms_p99": 700, "transfer_ms_p50": 50, "lost": 0, "elections_under_load": 0}
OURS = [*GOALS, "kills"]
WRITERS_FOR_EACH_SURVIVOR = 2
# A put that went to the dead leader is answered after seconds, or never: a writer gives it up and asks anew. Not after
# the same time each: the kill sets all writers going at once, and they would ask in step from there on.
PUT_SECONDS = (0.1, 0.25)
PAUSE_SECONDS = 0.005
# Nothing that takes longer is a failover.
LIMIT_SECONDS = 60


class Writer(threading.Thread):
    """Puts without pause through one member; tells `acknowledged` when each put that succeeded began and ended."""

    def __init__(self, port, name, acknowledged):
        super().__init__(daemon=True)
        self._port, self._acknowledged, self._stopped = port, acknowledged, threading.Event()
        key, value = (base64.b64encode(text.encode()).decode() for text in (name, "v" * 64))
        self._body = json.dumps({"key": key, "value": value}).encode()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=random.uniform(*PUT_SECONDS))
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", "/v3/kv/put", body=self._body)
                reply = connection.getresponse()
                reply.read()
                done = reply.status == 200
            except (OSError, http.client.HTTPException):
                # The next request opens it again.
                connection.close()
                connection.timeout = random.uniform(*PUT_SECONDS)
                done = False
            if done:
                self._acknowledged.put((began, time.monotonic()))
            else:
                time.sleep(PAUSE_SECONDS)
        connection.close()

    def stop(self):
        self._stopped.set()
        self.join()


def first_put_after_kill(cluster):
    """Milliseconds from the kill of the leader to the first put that a survivor acknowledged and that began after it."""
    leader = cluster.wait_until_healthy()
    acknowledged = queue.SimpleQueue()
    writers = [Writer(port, f"writer-{index}-{number}", acknowledged)
               for index, port in enumerate(cluster.ports) if index != leader
               for number in range(WRITERS_FOR_EACH_SURVIVOR)]
    for writer in writers:
        writer.start()
    try:
        # Anywhere between two heartbeats, and once the members have seen some load.
        time.sleep(0.5 + random.random() * 0.5)
        if acknowledged.empty():
            raise etcd.EtcdFailed("nothing could be written before the kill")
        killed = time.monotonic()
        cluster.kill(leader)
        # Dead for certain: nothing that begins from here on was acknowledged by the old leader.
        dead = time.monotonic()
        while True:
            try:
                began, ended = acknowledged.get(timeout=max(0.001, killed + LIMIT_SECONDS - time.monotonic()))
            except queue.Empty:
                raise etcd.EtcdFailed(f"nothing could be written within {LIMIT_SECONDS} s of a kill") from None
            if began > dead:
                break
    finally:
        for writer in writers:
            writer.stop()
    cluster.start(leader)
    return (ended - killed) * 1000


def etcd_failovers(options, folder, name, failures):
    """The milliseconds of each kill; fewer than asked for where one failed."""
    heartbeat, election = TIMERS[name]
    times = []
    try:
        with etcd.Cluster(folder, heartbeat, election) as cluster:
            for number in range(options.etcd_kills):
                print(f"bench-failover: etcd {name}, kill {number + 1} of {options.etcd_kills}", file=sys.stderr)
                times.append(first_put_after_kill(cluster))
            # A cluster that does not come back from the last kill has not passed it.
            cluster.wait_until_healthy()
    except (etcd.EtcdFailed, OSError) as problem:
        failures.append(f"etcd {name}: {problem}")
    return times


def our_failovers(options, folder, failures):
    print(f"bench-failover: ours, {options.kills} kills", file=sys.stderr)
    try:
        measured = measuring.ours(options.program, ["bench", "failover", "--json", "--kills", str(options.kills)],
                                  folder, 600 + 30 * options.kills)
    except measuring.ProgramFailed as problem:
        failures.append(f"ours: {problem}")
        measured = {}
    else:
        failures += [f"ours: no {key}" for key in OURS if not isinstance(measured.get(key), (int, float))]
    return {key: None for key in OURS} | measured


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measuring.add_options(parser)
    parser.add_argument("--kills", type=int, default=20, help="of our leader; default 20")
    parser.add_argument("--etcd-kills", type=int, default=7, help="of etcd's, with each of both timers; default 7")
    options = parser.parse_args()
    failures = []
    with measuring.folder_on_disk(options) as folder:
        surroundings = measuring.Surroundings(folder)
        line = our_failovers(options, folder, failures)
        theirs = {name: etcd_failovers(options, folder, name, failures) for name in TIMERS}
        record = surroundings.record()

    for name, times in theirs.items():
        line[f"etcd_{name}_ms_p50"] = rounded(median(times))
        line[f"etcd_{name}_ms_max"] = rounded(max(times, default=None))
    line["goals"] = {key: {"goal": goal, "met": isinstance(line[key], (int, float)) and line[key] <= goal}
                     for key, goal in GOALS.items()}
    line |= {"etcd_kills": options.etcd_kills, "etcd_ms": {name: [rounded(one) for one in times] for name, times in theirs.items()},
             "failures": failures, **record}
    rows = [("ours", line["kills"], line["first_write_ms_p50"], line["first_write_ms_p99"])]
    for name, (heartbeat, election) in TIMERS.items():
        rows.append((f"etcd, heartbeat {heartbeat}, election {election}", len(theirs[name]),
                     line[f"etcd_{name}_ms_p50"], line[f"etcd_{name}_ms_max"]))
    print(f"{'':<34} {'kills':>6} {'p50 ms':>8} {'worst':>8}   kill of the leader to the first write; the worst of ours is p99")
    for name, kills, middle, worst in rows:
        print(f"{name:<34} {shown(kills, 6)} {shown(middle, 8)} {shown(worst, 8)}")
    print(f"ours: transfer {shown(line['transfer_ms_p50'], 1, 1)} ms, lost {shown(line['lost'], 1)}, "
          f"elections under load {shown(line['elections_under_load'], 1)}")
    return measuring.report("bench-failover", line, failures)


if __name__ == "__main__":
    measuring.run(main)
