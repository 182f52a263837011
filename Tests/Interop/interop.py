#!/usr/bin/env python3
"""Runs every scenario against two servers; one line of JSON for each. Exits 1 if one failed.

The servers have the routes of Tests/InteropTests, which starts them and runs this. Needs `protoc`
and Python's `protobuf` package (Debian: protobuf-compiler, python3-protobuf).
"""

import argparse
import faulthandler
import json
import os
import shutil
import sys
import time
import traceback

try:
    import google.protobuf  # noqa: F401
except ImportError:
    sys.exit(f"interop.py: {sys.executable} has no protobuf package; "
             "cluster/install-dependencies.sh installs Debian's for /usr/bin/python3")
if not shutil.which("protoc"):
    sys.exit("interop.py: protoc is missing; cluster/install-dependencies.sh installs it")

import scenarios_page  # noqa: F401
import scenarios_calls  # noqa: F401
import scenarios_ends  # noqa: F401
from harness import SCENARIOS, Failure, World
from sfmedir_frames import ProtocolViolation, RPCError, Schemas

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def run(name, world):
    """Runs one scenario and prints its line."""
    began = time.monotonic()
    line = {"scenario": name, "ok": True}
    try:
        SCENARIOS[name](world)
    except (Failure, RPCError, ProtocolViolation, TimeoutError, OSError) as error:
        line.update(ok=False, problem=f"{type(error).__name__}: {error}")
    except Exception:
        line.update(ok=False, problem=traceback.format_exc())
    line["seconds"] = round(time.monotonic() - began, 3)
    print(json.dumps(line), flush=True)
    return line["ok"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--draining-address", type=address, required=True, metavar="HOST:PORT",
                        help="a server that lets strangers join and shuts down when it is told to")
    parser.add_argument("--certs", required=True, metavar="DIR",
                        help="authority.pem; client and foreign, each .pem and .key")
    parser.add_argument("--protos", default=os.path.join(ROOT, "Protos"), metavar="DIR")
    parser.add_argument("--page", default=os.path.join(ROOT, "docs/formats/wire.md"))
    parser.add_argument("--only", action="append", metavar="SCENARIO", choices=list(SCENARIOS))
    parser.add_argument("--limit-seconds", type=float, default=540,
                        help="where it hangs all the same, it ends after so long and shows where")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(options.limit_seconds, exit=True)
    world = World(
        options.address, options.draining_address, options.certs, Schemas(options.protos),
        options.page)
    results = [run(name, world) for name in options.only or SCENARIOS]
    sys.exit(0 if all(results) else 1)


main()
