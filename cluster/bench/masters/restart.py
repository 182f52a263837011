#!/usr/bin/env python3
"""How long a master with many images takes to serve again: from its start, and from when its log is open.

Stores one image in a cluster of its own, makes many of it in the master's tables while nothing runs, and starts the
cluster again, several times. The last line of standard output is one JSON object: records, runs, serving_after_log_open_s
(goal 1), searching_after_log_open_s, log_open_s and serving_s from the start of the process, state_bytes; medians."""
import argparse
import datetime
import pathlib
import random
import re
import sqlite3
import subprocess
import sys
import time

import measuring

GOAL_SECONDS = 1.0
FIGURES = {"log_open_s": "the log is open after", "serving_s": "serving after",
           "serving_after_log_open_s": "serving, from the log's being open",
           "searching_after_log_open_s": "searching, from the log's being open"}
IMAGE_ID_FIELD, CODES_FIELD, BITS_FIELD, CODE_FIELD = 1, 3, 3, 4


def say(text):
    print(f"bench-restart: {text}", file=sys.stderr)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytearray([value]))


def fields(message):
    """The fields of a protobuf message: number, wire type, and the value: an integer, or bytes."""
    position = 0

    def number():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, 0, number()
            continue
        count = {1: lambda: 8, 2: number, 5: lambda: 4}[tag & 7]()
        yield tag >> 3, tag & 7, message[position:position + count]
        position += count


def changed(message, replace):
    """The message with some of its fields made anew."""
    out = b""
    for number, kind, value in fields(message):
        if number in replace:
            value = replace[number](value)
        out += varint(number << 3 | kind)
        out += varint(value) if kind == 0 else (varint(len(value)) if kind == 2 else b"") + value
    return out


def fill(path, count, seed):
    """Makes `count` images of the one that is there, with other ids, codes and shadow names."""
    generator = random.Random(seed)
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous = OFF")
    image = database.execute("SELECT * FROM images").fetchone()
    names = [column[1] for column in database.execute("PRAGMA table_info(images)")]
    at = {name: place for place, name in enumerate(names)}
    placements = database.execute("SELECT shadow, slave, digest FROM placements WHERE image_id = ?", (image[at["image_id"]],)).fetchall()
    code = next(value for number, _, value in fields(image[at["record"]]) if number == CODES_FIELD)
    bits = next(value for number, _, value in fields(code) if number == BITS_FIELD)

    def new_code(code):
        return changed(code, {CODE_FIELD: lambda _: generator.getrandbits(bits).to_bytes(8, "little")})

    # In order, as an index without row numbers is filled fastest.
    ids = sorted(generator.randbytes(16) for _ in range(count - 1))
    for start in range(0, len(ids), 10_000):
        part = ids[start:start + 10_000]
        rows = []
        for image_id in part:
            row = list(image)
            row[at["image_id"]] = image_id
            row[at["record"]] = changed(image[at["record"]], {IMAGE_ID_FIELD: lambda _, new=image_id: new, CODES_FIELD: new_code})
            rows.append(row)
        with database:
            database.executemany(f"INSERT INTO images VALUES ({', '.join('?' * len(names))})", rows)
            database.executemany("INSERT INTO epochs VALUES (?, ?)", [(row[at["image_id"]], row[at["epoch"]]) for row in rows])
            database.executemany("INSERT INTO placements VALUES (?, ?, ?, ?, ?, ?)",
                                 [(row[at["image_id"]], row[at["epoch"]], shadow, slave, generator.randbytes(32), digest)
                                  for row in rows for shadow, slave, digest in placements])
    with database:
        database.execute("UPDATE owners SET images = ?, bytes = ?", (count, count * image[at["sealed_bytes"]]))
        database.execute("UPDATE meta SET value = ? WHERE key = 'shadows'", (count * len(placements),))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return pathlib.Path(path).stat().st_size


def moments(lines):
    """When each line of a master's log that matters was written, in seconds."""
    found = {}
    for line in lines:
        stamp, _, rest = line.partition(" ")
        for what in ["the log is open", "images can be searched", "serving"]:
            if re.match(rf"\w+ +{what}( |$)", rest):
                found[what] = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    return found


class Cluster:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, *arguments, codes=(0,)):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=600)
        if done.returncode not in codes:
            raise measuring.ProgramFailed(f"sfmedir {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def up(self):
        self.run("dev", "up", "--dir", self.folder, "--slaves", "3", "--masters", "1", "--no-care", "--wait", "300")

    def down(self):
        if pathlib.Path(self.folder, "cluster.json").exists():
            self.run("dev", "down", "--dir", self.folder)

    @property
    def log(self):
        return pathlib.Path(self.folder, "logs", "mcs-1.log")

    def restart(self):
        """Seconds until the log was open, until it served, and until it could search; the first from its start."""
        before = len(self.log.read_text().splitlines())
        began = time.time()
        self.up()
        deadline = time.monotonic() + 300
        while True:
            found = moments(self.log.read_text().splitlines()[before:])
            if len(found) == 3:
                break
            if time.monotonic() > deadline:
                raise measuring.ProgramFailed("the master does not serve")
            time.sleep(0.05)
        # The key control entity starts first: the master's own start is what its log shows first.
        first = next(datetime.datetime.fromisoformat(line.split(" ")[0].replace("Z", "+00:00")).timestamp()
                     for line in self.log.read_text().splitlines()[before:] if line[:2] == "20")
        opened = found["the log is open"]
        return {"log_open_s": opened - max(first, began), "serving_s": found["serving"] - max(first, began),
                "serving_after_log_open_s": found["serving"] - opened,
                "searching_after_log_open_s": found["images can be searched"] - opened}


def restarts(options, folder):
    """Of each restart: see Cluster.restart. And how large the state's file was."""
    cluster = Cluster(options.program, f"{folder}/cluster")
    try:
        cluster.up()
        cluster.run("phantom", "--out", f"{folder}/pictures", "--count", "1")
        configuration = str(next(pathlib.Path(cluster.folder).rglob("cli.toml")))
        picture = str(next((folder / "pictures").iterdir()))
        cluster.run("upload", "--config", configuration, picture)
        cluster.down()
        say(f"making {options.records:,} images")
        size = fill(next(pathlib.Path(cluster.folder).rglob("state.sqlite")), options.records, options.seed)
        runs = []
        for number in range(options.runs):
            runs.append(cluster.restart())
            say(f"restart {number + 1} of {options.runs}: serving {runs[-1]['serving_after_log_open_s']:.2f} s, "
                f"searching {runs[-1]['searching_after_log_open_s']:.2f} s after the log was open")
            # 1: the tags of a copy do not open, as they belong to the image that was copied.
            found = cluster.run("query", "--config", configuration, "-k", "5", "--json", picture, codes=(0, 1)).splitlines()
            if sum('"type":"result"' in line for line in found) != 5:
                raise measuring.ProgramFailed("a query did not find 5 images")
            cluster.down()
        return runs, size
    finally:
        # Whatever runs must end before its folder goes.
        cluster.down()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measuring.add_options(parser)
    parser.add_argument("--records", type=int, default=1_000_000, help="images in the master's tables")
    parser.add_argument("--runs", type=int, default=3, help="restarts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failures, runs, size = [], [], None
    with measuring.folder_on_disk(options) as folder:
        surroundings = measuring.Surroundings(folder)
        try:
            runs, size = restarts(options, folder)
        except (measuring.ProgramFailed, OSError, subprocess.SubprocessError) as problem:
            failures.append(str(problem))
        record = surroundings.record()
    line = {key: measuring.rounded(measuring.median([one[key] for one in runs])) for key in FIGURES}
    print(f"{options.records:,} images, medians of {len(runs)} restarts")
    for key, text in FIGURES.items():
        print(f"  {text:<38} {measuring.shown(line[key], 8, 3)} s")
    reached = line["serving_after_log_open_s"]
    line |= {"records": options.records, "runs": runs, "state_bytes": size,
             "goals": {"serving_after_log_open_s": {"goal": GOAL_SECONDS, "met": reached is not None and reached <= GOAL_SECONDS}},
             "failures": failures, **record}
    return measuring.report("bench-restart", line, failures)


if __name__ == "__main__":
    measuring.run(main)
