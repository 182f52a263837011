"""One daemon of the cluster: started in its namespace, and started again when it ends by itself."""
import dataclasses
import os
import signal
import subprocess
import threading
import time

from network import Network

RESTART_SECONDS = 0.5
GRACE_SECONDS = 8


@dataclasses.dataclass
class Ending:
    """A process that ended without having been told to."""
    node: str
    status: int
    seconds: float

    @property
    def is_crash(self):
        """By a signal: a trap, an abort, a bad access."""
        return self.status < 0

    def __str__(self):
        how = (f"died of {signal.Signals(-self.status).name}" if self.is_crash
               else f"ended with {self.status}")
        return f"{self.node} {how} at {self.seconds:.1f} s"


class Daemon:
    def __init__(self, node, program, log, environment=None):
        self.node = node
        self.program = program
        path, words = program
        self.command = Network.inside(node) + [str(path), *map(str, words)]
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.endings = []
        self.is_paused = False
        self._process = None
        self._wanted = False
        self._lock = threading.Lock()
        self._began = time.monotonic()

    @property
    def is_up(self):
        with self._lock:
            return self._wanted

    def start(self):
        with self._lock:
            if self._wanted:
                return
            self._wanted = True
            process = self._spawn()
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _spawn(self):
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.environment, start_new_session=True)
        return self._process

    def _watch(self, process):
        """What a service manager does."""
        while True:
            status = process.wait()
            with self._lock:
                if not self._wanted or process is not self._process:
                    return
                self.endings.append(Ending(self.node, status, time.monotonic() - self._began))
            time.sleep(RESTART_SECONDS)
            with self._lock:
                if not self._wanted or process is not self._process:
                    return
                process = self._spawn()

    def _end(self, number, seconds):
        with self._lock:
            self._wanted = False
            process = self._process
        if process is None or process.poll() is not None:
            return True
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True

    def kill(self):
        """It stays down until it is started."""
        self.is_paused = False
        self._end(signal.SIGKILL, GRACE_SECONDS)

    def stop(self):
        """False where it had to be killed."""
        self.resume()
        return self._end(signal.SIGTERM, GRACE_SECONDS)

    def _signal(self, number):
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def pause(self):
        self.is_paused = True
        self._signal(signal.SIGSTOP)

    def resume(self):
        if self.is_paused:
            self.is_paused = False
            self._signal(signal.SIGCONT)
