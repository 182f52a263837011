"""Plays a scenario: one method for each kind of sentence, and what came of it all."""
import dataclasses
import threading
import time
import traceback

from cluster import CLIENTS, VOTERS, Cluster, ClusterFailed
from history import CheckFailed, History, check
from isolation import Impossible
from network import EVERYTHING
from scenario import has, node_phrases
from workload import Workload

# An operation may have been under way, and a lease in force, when the second of three was lost.
SILENCE_AFTER_SECONDS = 1.0
START_SECONDS = 30
SETTLE_SECONDS = 45


@dataclasses.dataclass
class Result:
    name: str
    operations: int = 0
    unknown: int = 0
    elections: int = 0
    # Of how many images: no order explains what was seen; an acknowledged upload, and no image in the end.
    linearizability_violations: int = 0
    acknowledged_images_lost: int = 0
    seconds: float = 0.0
    # Whatever is not as it should be.
    problems: list = dataclasses.field(default_factory=list)
    # What a person may want to know, and no fault.
    remarks: list = dataclasses.field(default_factory=list)

    @property
    def verdict(self):
        return "FAILED" if self.problems else "ok"


class Play:
    def __init__(self, name, sentences, stage, folder, seed):
        self.result = Result(name)
        self.sentences = sentences
        self.stage = stage
        self.folder = folder
        self.seed = seed
        self.cluster = None
        self.history = None
        self.workload = None
        self.first_term = 0
        self.them = []
        self.lost = []
        self.must_fail = False
        self.restarts = []
        self._began = time.monotonic()

    def run(self):
        try:
            for step in (self._perform_all, self._end_clients, self._judge, self._end_cluster):
                self._attempt(step)
        finally:
            # Also where the run is interrupted.
            if self.history is not None:
                self.history.close()
        self.result.seconds = time.monotonic() - self._began
        return self.result

    def _attempt(self, step):
        """Whatever goes wrong, ourselves included, is a problem of this scenario; what was seen until then is judged."""
        try:
            step()
        except (ClusterFailed, CheckFailed, Impossible) as problem:
            self.result.problems.append(str(problem))
        except Exception:  # pylint: disable=broad-except
            self.result.problems.append(traceback.format_exc().strip())

    def _perform_all(self):
        for sentence in self.sentences:
            self.perform(sentence)

    def perform(self, sentence):
        if sentence.verb not in ("after", "repeat"):
            self.note(sentence.text)
        method = getattr(self, sentence.verb)
        if sentence.body:
            method(*sentence.arguments, body=sentence.body)
        else:
            method(*sentence.arguments)

    def note(self, text):
        line = f"{time.monotonic() - self._began:7.2f} {time.monotonic_ns()} {text}"
        with open(self.folder / "events.log", "a", encoding="utf-8") as log:
            log.write(line + "\n")
        self.stage.trace(line)

    def _end_clients(self):
        # Nothing may start once the cluster is being taken down.
        self.restarted()
        if self.workload is not None:
            self.workload.stop()

    def _end_cluster(self):
        if self.cluster is not None:
            endings = [end for daemon in self.cluster.daemons.values() for end in daemon.endings]
            self.result.problems += [str(end) for end in endings if end.is_crash]
            self.result.remarks += [str(end) for end in endings if not end.is_crash]
            self.cluster.remove()

    def _judge(self):
        if self.history is None:
            return
        result, history = self.result, self.history
        result.operations, result.unknown = history.operations, history.unknown
        result.problems += [f"{image} came back altered" for image in history.altered] + history.odd
        findings = check(self.stage.programs.checker, history.close())
        if self.must_fail:
            # Only what is sure: not what is undecided, nor what calls explain that took effect twice.
            seen = {*findings.violated} - {*findings.doubled} | {*self.lost}
            if seen:
                result.remarks.append(f"as it has to be, a loss is seen of {len(seen)} images")
            else:
                result.problems += ["the loss was not seen", *findings.lines]
            return
        result.acknowledged_images_lost = len(self.lost)
        result.problems += [f"{image} was acknowledged and is lost" for image in self.lost]
        is_repetition = findings.violated and findings.violated == findings.doubled
        if is_repetition and self.stage.allows_repeats and not findings.undecided:
            result.remarks.append("a call took effect twice before it was answered")
            return
        result.linearizability_violations = len(findings.violated)
        if is_repetition:
            result.problems.append("not linearizable, unless a call took effect twice:")
        result.problems += findings.lines

    # Who is meant

    def nodes(self, text):
        found = []
        for phrase in node_phrases(text):
            found += self._named(phrase)
        for node in found:
            if node != CLIENTS and node not in self.cluster.roles:
                raise ClusterFailed(f"there is no node {node}")
        self.them = list(dict.fromkeys(found))
        self.note(f"  {text}: {', '.join(self.them)}")
        return self.them

    def _named(self, phrase):
        of_role = self.cluster.of_role
        match phrase:
            case "it" | "them": return self.them
            case "the leader": return [self.cluster.leader()]
            case "the other master": return [self.cluster.other_master()]
            case "the witness": return of_role("witness")
            case "the owner": return of_role("mo")
            case "the user": return of_role("mu")
            case "every master": return of_role("mcs")
            case "every voter": return of_role(*VOTERS)
            case "every slave": return of_role("scs")
            case "everybody": return list(self.cluster.roles)
        return [phrase]

    def _daemons(self, text):
        return [self.cluster.daemons[node] for node in self.nodes(text)]

    # The beginning

    def begin(self, slaves, small):
        library = self.stage.slow_fsync() if has(self.sentences, "slow") else None
        self.cluster = Cluster(self.stage.template(int(slaves)), self.folder, small is not None,
                               library)
        self.cluster.start(self._patience(START_SECONDS))
        self.first_term = self.cluster.term()
        self.history = History(self.folder)

    def run_clients(self, count):
        self.workload = Workload(self.cluster, self.history, self.folder, self.seed)
        self.workload.start(int(count))

    # Time

    def wait(self, seconds):
        time.sleep(float(seconds))

    def after(self, seconds, body):
        self.wait(seconds)
        for sentence in body:
            self.perform(sentence)

    def repeat(self, times, body):
        for _ in range(int(times)):
            for sentence in body:
                self.perform(sentence)

    def let_lead(self, node):
        self.cluster.let_lead(*self.nodes(node))

    # Links

    def cut(self, left, right):
        self._lose(EVERYTHING, self.nodes(left), self.nodes(right))

    def cut_one_way(self, sender, receiver):
        senders, receivers = self.nodes(sender), self.nodes(receiver)
        self.cluster.network.lose(EVERYTHING, [(a, b) for a in senders for b in receivers if a != b])

    def isolate(self, nodes):
        alone = self.nodes(nodes)
        others = [node for node in [*self.cluster.roles, CLIENTS] if node not in alone]
        self._lose(EVERYTHING, alone, others)

    def lose(self, percent, left, right):
        self._lose(int(percent), self.nodes(left), self.nodes(right))

    def lose_everywhere(self, percent):
        everybody = [*self.cluster.roles, CLIENTS]
        self._lose(int(percent), everybody, everybody)

    def _lose(self, percent, left, right):
        pairs = {(a, b) for a in left for b in right if a != b}
        self.cluster.network.lose(percent, sorted(pairs | {(b, a) for a, b in pairs}))

    # Delays: the senders are named last, so that they are 'it'

    def delay_one_way(self, sender, receiver, milliseconds, more):
        receivers = self.nodes(receiver)
        self._delay(self.nodes(sender), receivers, milliseconds, more)

    def delay(self, left, right, milliseconds, more):
        left, right = self.nodes(left), self.nodes(right)
        self._delay(left, right, milliseconds, more)
        self._delay(right, left, milliseconds, more)

    def delay_everywhere(self, milliseconds, more):
        senders = list(self.cluster.roles)
        self._delay(senders, [*senders, CLIENTS], milliseconds, more)

    def _delay(self, senders, receivers, milliseconds, more):
        if CLIENTS in senders:
            raise ClusterFailed("only daemons delay what they send, clients do not")
        links = [(a, b) for a in senders for b in receivers if a != b]
        self.cluster.delays.hold(int(milliseconds), int(more or 0), links)

    def heal(self):
        """Links, delays, disks, and who is paused; who is down stays down."""
        self.cluster.network.heal()
        self.cluster.delays.heal()
        for disk in self.cluster.disks.values():
            disk.mend()
        for daemon in self.cluster.daemons.values():
            daemon.resume()

    # Processes

    def kill(self, nodes):
        for daemon in self._daemons(nodes):
            daemon.kill()

    def start(self, nodes):
        for daemon in self._daemons(nodes):
            daemon.start()

    def restart(self, nodes):
        """In the background: how long a daemon takes to stop must not matter to the others."""
        for daemon in self._daemons(nodes):
            thread = threading.Thread(target=self._restart, args=(daemon,), daemon=True)
            thread.start()
            self.restarts.append(thread)

    def _restart(self, daemon):
        began = time.monotonic()
        if not daemon.stop():
            self.result.problems.append(f"{daemon.node} did not stop and was killed")
        self.note(f"  {daemon.node} has stopped after {time.monotonic() - began:.2f} s")
        daemon.start()

    def restarted(self):
        for thread in self.restarts:
            thread.join()
        self.restarts = []

    def wipe(self, nodes):
        """No fault that a cluster can bear: for scenarios that show that a loss is seen."""
        daemons = self._daemons(nodes)
        # All at once: one that remembers would teach the others.
        for daemon in daemons:
            daemon.kill()
        for daemon in daemons:
            self.cluster.wipe(daemon.node)
        for daemon in daemons:
            daemon.start()

    def pause(self, nodes):
        for daemon in self._daemons(nodes):
            daemon.pause()

    def resume(self, nodes):
        for daemon in self._daemons(nodes):
            daemon.resume()

    # Disks

    def slow(self, nodes, milliseconds):
        for node in self.nodes(nodes):
            self.cluster.disks[node].slow(int(milliseconds))

    def fill(self, nodes):
        for node in self.nodes(nodes):
            self.cluster.disks[node].fill()

    def mend(self, nodes):
        for node in self.nodes(nodes):
            self.cluster.disks[node].mend()

    # What is expected

    def _patience(self, seconds):
        return float(seconds) * self.stage.patience

    def expect_answers(self, seconds):
        """Writes that began after this sentence are acknowledged."""
        began = time.monotonic_ns()
        while not self.history.writes_since(began):
            if time.monotonic_ns() - began > self._patience(seconds) * 1e9:
                self.result.problems.append(f"no write was acknowledged for {self._patience(seconds):g} s")
                return
            time.sleep(0.02)
        self.note(f"  after {(time.monotonic_ns() - began) / 1e9:.2f} s")

    def expect_other_leader(self, nodes, seconds):
        before = self.nodes(nodes)
        began = time.monotonic()
        while (leader := self.cluster.leader()) in before:
            if time.monotonic() - began > self._patience(seconds):
                self.result.problems.append(f"{leader} has led for {self._patience(seconds):g} s more")
                return
            time.sleep(0.1)
        self.note(f"  {leader} after {time.monotonic() - began:.2f} s")

    def expect_silence(self, seconds):
        """Without two of three voters there is no answer, and no client hangs."""
        time.sleep(SILENCE_AFTER_SECONDS)
        began = time.monotonic_ns()
        time.sleep(float(seconds))
        count = self.history.answers_since(began)
        if count:
            self.result.problems.append(f"{count} operations were answered where none may be")

    def settle(self):
        self.heal()
        self.restarted()
        for daemon in self.cluster.daemons.values():
            daemon.start()
        self.workload.stop()
        began = time.monotonic()
        self.cluster.wait_until_well(self._patience(SETTLE_SECONDS))
        self.note(f"  all agree after {time.monotonic() - began:.2f} s")
        self.result.elections = self.cluster.term() - self.first_term

    def nothing_lost(self):
        problems, self.lost = self.workload.fetch_all()
        self.result.problems += problems

    def something_lost(self):
        """In a scenario that breaks what the cluster relies on: would a loss be seen?"""
        _, self.lost = self.workload.fetch_all()
        self.must_fail = True
