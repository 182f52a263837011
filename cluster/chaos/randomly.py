"""Scenarios drawn from a seed: the same sentences as those that people write, so any can be kept."""
import random

VOTERS = ("mcs-1", "mcs-2", "witness-1", "the leader", "the other master")
FAULTS = 4


def _pair(chance):
    while True:
        left, right = chance.sample(VOTERS, 2)
        # With one of them named by its place they may be one and the same node.
        if ("the" in left) == ("the" in right):
            return left, right


def _cut(chance):
    left, right = _pair(chance)
    return [chance.choice([f"cut {left} from {right} both ways", f"cut what {left} sends to {right}"])]


def _isolate(chance):
    return [chance.choice([f"isolate {chance.choice(VOTERS)}",
                           "cut the leader from every voter both ways"])]


def _cut_others(chance):
    left = chance.choice(["the owner", "the user", f"scs-{chance.randint(1, 5)}"])
    return [chance.choice([f"cut {left} from the leader both ways", f"cut what {left} sends to mcs-1",
                           f"cut what the leader sends to {left}"])]


def _lose(chance):
    left, right = _pair(chance)
    return [chance.choice([f"lose {chance.choice([5, 10, 20])} % everywhere",
                           f"lose {chance.choice([20, 40, 60])} % between {left} and {right}"])]


def _delay(chance):
    left, right = _pair(chance)
    # From a longer way to beyond what elections wait for.
    by = f"by {chance.choice([5, 40, 150, 800])} ms{chance.choice(['', f' and up to {chance.choice([20, 200])} ms more'])}"
    return [chance.choice([f"delay everywhere by {chance.choice([2, 10, 40])} ms and up to {chance.choice([5, 40])} ms more",
                           f"delay between {left} and {right} {by}", f"delay what {left} sends to {right} {by}",
                           f"delay what {left} sends to everybody and clients {by}"])]


def _kill(chance):
    node = chance.choice([*VOTERS, "every voter", "mo-1", "mu-1", "kce-1",
                          f"scs-{chance.randint(1, 5)}"])
    return [f"kill {node}", f"after {chance.choice([0.1, 0.5, 2, 4])} s start it"]


def _pause(chance):
    node = chance.choice([*VOTERS, "mo-1", f"scs-{chance.randint(1, 5)}"])
    return [f"pause {node}", f"after {chance.choice([0.3, 1, 3])} s resume it"]


def _restart(chance):
    return [f"restart {chance.choice([*VOTERS, 'mo-1', 'mu-1'])}"]


def _hand_over(chance):
    return [f"let {chance.choice(['mcs-1', 'mcs-2'])} lead"]


def _slow(chance):
    return [f"slow the disk of {chance.choice(VOTERS)} by {chance.choice([20, 100, 500])} ms"]


def _fill(chance):
    return [f"fill the disk of {chance.choice(VOTERS)}"]


KINDS = {_cut: 6, _isolate: 3, _cut_others: 2, _lose: 2, _delay: 3, _kill: 5, _pause: 3, _restart: 1, _slow: 2,
         _fill: 1}


def scenario(seed):
    chance = random.Random(seed)
    lines = [f"# Drawn from the seed {seed}.", "start with 5 slaves on small disks", "run 4 clients",
             "for 1 s"]
    for _ in range(FAULTS):
        if chance.random() < 0.3:
            lines += _hand_over(chance)
        for _ in range(chance.choice([1, 1, 2])):
            kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
            lines += kind(chance)
            lines.append(f"for {chance.choice([0.2, 1, 2, 4])} s")
        lines += ["heal everything", f"for {chance.choice([0.5, 1, 2])} s"]
    return "\n".join([*lines, "settle", "nothing is lost"]) + "\n"
