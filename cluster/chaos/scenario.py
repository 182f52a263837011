"""Reads scenarios: small texts, a sentence a line. README.md lists the sentences.

    # Comments begin so.
    start with 5 slaves
    run 4 clients
    after 2 s cut mcs-1 from mcs-2 both ways
    for 6 s
    repeat 3 times
      kill the leader
      after 2 s start it
    settle
    nothing is lost
"""
import dataclasses
import re


class ScenarioError(Exception):
    """A text that is no scenario."""


@dataclasses.dataclass
class Sentence:
    number: int
    verb: str
    arguments: tuple
    text: str
    body: list = dataclasses.field(default_factory=list)


NODES = r"(.+?)"
SECONDS = r"(\d+(?:\.\d+)?) s"
DELAY = r"(\d+) ms(?: and up to (\d+) ms more)?"
# Which sentences there are, and what performs them: a method of play.Play of that name.
SENTENCES = {
    "begin": rf"start with (\d+) slaves( on small disks)?",
    "run_clients": r"run (\d+) clients",
    "after": rf"after {SECONDS} (.+)",
    "wait": rf"for {SECONDS}",
    "repeat": r"repeat (\d+) times",
    "cut": rf"cut {NODES} from {NODES} both ways",
    "cut_one_way": rf"cut what {NODES} sends to {NODES}",
    "isolate": rf"isolate {NODES}",
    "lose": rf"lose (\d+) % between {NODES} and {NODES}",
    "lose_everywhere": r"lose (\d+) % everywhere",
    "delay_one_way": rf"delay what {NODES} sends to {NODES} by {DELAY}",
    "delay": rf"delay between {NODES} and {NODES} by {DELAY}",
    "delay_everywhere": rf"delay everywhere by {DELAY}",
    "heal": r"heal everything",
    "let_lead": r"let ([a-z]+-\d+|the other master) lead",
    "kill": rf"kill {NODES}",
    "start": rf"start {NODES}",
    "restart": rf"restart {NODES}",
    "restarted": r"wait for restarts",
    "pause": rf"pause {NODES}",
    "resume": rf"resume {NODES}",
    "slow": rf"slow the disk of {NODES} by (\d+) ms",
    "fill": rf"fill the disk of {NODES}",
    "mend": rf"mend the disk of {NODES}",
    "expect_answers": rf"writes go on within {SECONDS}",
    "expect_other_leader": rf"another than {NODES} leads within {SECONDS}",
    "expect_silence": rf"nothing is answered for {SECONDS}",
    "wipe": rf"wipe {NODES}",
    "settle": r"settle",
    "nothing_lost": r"nothing is lost",
    "something_lost": r"something is lost",
}
NODE_WORDS = re.compile(
    r"(kce|mcs|witness|scs|mo|mu)-\d+|clients|it|them|the leader|the other master|the witness|"
    r"the owner|the user|every master|every voter|every slave|everybody")


def node_phrases(text):
    """`A, B and C`: its parts. Not between "the" and what follows, since no name has an "and"."""
    return re.split(r", | and ", text)


def sentence(number, text):
    for verb, pattern in SENTENCES.items():
        match = re.fullmatch(pattern, text)
        if match is None:
            continue
        if verb == "after":
            inner = sentence(number, match[2])
            return Sentence(number, verb, (match[1],), text, [inner])
        groups = [group for index, group in enumerate(match.groups(), 1)
                  if group is not None and verb not in ("begin", "run_clients")]
        for group in groups:
            if not re.fullmatch(r"[\d.]+", group):
                for phrase in node_phrases(group):
                    if not NODE_WORDS.fullmatch(phrase):
                        raise ScenarioError(f"line {number}: '{phrase}' names no node: {text}")
        return Sentence(number, verb, match.groups(), text)
    raise ScenarioError(f"line {number}: this is no sentence: {text}")


def parse(text):
    """The sentences of a scenario."""
    sentences, block = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        is_inside = line[0].isspace()
        if is_inside and block is None:
            raise ScenarioError(f"line {number}: only what follows a 'repeat' is indented")
        parsed = sentence(number, line.strip())
        if is_inside:
            block.body.append(parsed)
            continue
        block = parsed if parsed.verb == "repeat" else None
        sentences.append(parsed)
    verbs = [parsed.verb for parsed in sentences]
    if not verbs or verbs[0] != "begin" or verbs.count("begin") != 1:
        raise ScenarioError("a scenario begins with 'start with N slaves'")
    if verbs[-2:-1] != ["settle"] or verbs[-1] not in ("nothing_lost", "something_lost"):
        raise ScenarioError("a scenario ends with 'settle' and 'nothing is lost'")
    return sentences


def has(sentences, verb):
    return any(parsed.verb == verb or has(parsed.body, verb) for parsed in sentences)


def description(text):
    """The comment at its head, in one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].strip())
    return " ".join(lines)
