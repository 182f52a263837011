"""Medians, round-by-round ratios, the table for people and the JSON line for programs."""
import statistics

OURS = "sfmedir"
_FIGURES = ("calls_per_s", "p50_us", "p99_us", "MBps", "cpu_us_per_call")
# name of a ratio, the cell and the figure it is of
_RATIOS = (
    ("calls_1", "1KiB_1", "calls_per_s"),
    ("calls_8", "1KiB_8", "calls_per_s"),
    ("calls_64", "1KiB_64", "calls_per_s"),
    ("p50_1", "1KiB_1", "p50_us"),
    ("p99_1", "1KiB_1", "p99_us"),
    ("mbps_1mib_1", "1MiB_1", "MBps"),
    ("mbps_1mib", "1MiB_8", "MBps"),
)
# What the project wants: the key, whether more is better, and the bound.
_GOALS = (
    ("vs_grpc_cpp_calls_64", True, 6), ("vs_grpc_swift_calls_64", True, 30),
    ("vs_grpc_cpp_p50_1", False, 0.45), ("vs_grpc_cpp_mbps_1mib", True, 2),
    ("idle_connection_kib", False, 48),
)


def _short(number):
    """Four significant digits."""
    return None if number is None else float(f"{number:.4g}")


def _spread(numbers):
    if not numbers:
        return None
    return {"median": _short(statistics.median(numbers)), "min": _short(min(numbers)),
            "max": _short(max(numbers))}


def ratios(rounds, other):
    """Ours over the other's, round by round, so that they hold while the machine's load drifts.

    `rounds` maps a cell's name to a list of {peer: figures}, one for each round.
    """
    found = {}
    for name, cell, figure in _RATIOS:
        found[name] = _spread([
            row[OURS][figure] / row[other][figure] for row in rounds.get(cell, [])
            if OURS in row and other in row and row[other][figure] and row[OURS][figure]])
    return found


def figures(rounds, peer):
    """Medians over the rounds for each cell."""
    found = {}
    for cell, rows in rounds.items():
        mine = [row[peer] for row in rows if peer in row]
        if mine:
            found[cell] = {name: _short(statistics.median([run[name] for run in mine]))
                           for name in _FIGURES}
    return found


def summary(rounds, idle, tls, peers):
    """Everything that was measured, as the JSON line has it. What is missing is null."""
    record = {"bench": "rpc"}
    others = [name for name in peers if name != OURS]
    for other in sorted({"grpc-cpp", "grpc-swift", *others}):
        for name, spread in ratios(rounds, other).items():
            record[f"vs_{other.replace('-', '_')}_{name}"] = spread and spread["median"]
    record["idle_connection_kib"] = _short(idle.get(OURS))
    record["goals"] = {key: _judge(record[key], more, bound) for key, more, bound in _GOALS}
    record["ratios"] = {other: ratios(rounds, other) for other in others}
    record["peers"] = {
        name: {"cells": figures(rounds, name), "idle_connection_kib": _short(idle.get(name)),
               "tls": tls.get(name)}
        for name in peers}
    return record


def _judge(value, more, bound):
    met = None if value is None else (value >= bound if more else value <= bound)
    return {"goal": f"{'at least' if more else 'at most'} {bound}", "met": met}


def _text(number):
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(
        text.ljust(width) if column < 2 else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def table(record):
    """The summary as lines of text."""
    rows = [("cell", "peer", "calls/s", "p50 us", "p99 us", "MB/s", "CPU us/call")]
    by_cell = {}
    for peer, entry in record["peers"].items():
        for cell, values in entry["cells"].items():
            by_cell.setdefault(cell, []).append((peer, values))
    for cell, entries in by_cell.items():
        payload, in_flight = cell.split("_")
        for peer, values in entries:
            rows.append((f"{payload} x {in_flight}", peer,
                         *(_text(values[name]) for name in _FIGURES)))
    lines = _aligned(rows)

    ratio_rows = [("ratio", "against", "median", "min", "max")]
    for other, entry in record["ratios"].items():
        for name, spread in entry.items():
            if spread:
                ratio_rows.append((name, other, *(_text(spread[part])
                                                  for part in ("median", "min", "max"))))
    if len(ratio_rows) > 1:
        lines += ["", "ours over the other, round by round:"] + _aligned(ratio_rows)

    lines += [""] + _aligned([("server", "TLS", "KiB per idle connection")] + [
        (name, _tls_text(entry["tls"]), _text(entry["idle_connection_kib"]))
        for name, entry in record["peers"].items()])
    lines += ["", "goals:"] + _aligned([("", "", "")] + [
        (key, {None: "not measured", True: "met", False: "missed"}[entry["met"]],
         f"{_text(record[key])} ({entry['goal']})")
        for key, entry in record["goals"].items()])[1:]
    return lines


def _tls_text(tls):
    if tls is None:
        return "-"
    mutual = "mutual" if tls["mutual"] else "NOT MUTUAL"
    return f"{tls['version']}, {tls['cipher']}, {tls['group']}, {mutual}"
