"""Runs the rest of the program in mount, network and process namespaces of its own.

Whatever is made in them (interfaces, namespaces of nodes, mounts, daemons) is gone with the first
process in them, however that ends: nothing has to be tidied up.
"""
import ctypes
import os
import signal
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1
# Exit status where that is so.
IMPOSSIBLE = 2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Impossible(Exception):
    """This machine does not let us make namespaces."""


def _call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def shell(*command, text=None):
    """Runs a command of the system's; Impossible where it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Impossible(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        raise Impossible(f"'{' '.join(command)}' failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _interrupt(*_):
    # The terminal sends it to the whole group, and the parent passes it on: once is enough.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _prepare():
    shell("mount", "--make-rprivate", "/")
    shell("mount", "-t", "proc", "proc", "/proc")
    # Names of namespaces are files there: on a file system of our own they go with it.
    os.makedirs("/run/netns", exist_ok=True)
    shell("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    shell("ip", "link", "set", "lo", "up")


def run_alone(body):
    """The exit status of `body()`, run as the first process of new namespaces."""
    try:
        _call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)
    except OSError as problem:
        raise Impossible(f"no new namespaces: {problem.strerror} (root is needed)") from None
    child = os.fork()
    if child == 0:
        status = 70
        try:
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            # The first process ignores every signal that it does not handle.
            for number in ENDING:
                signal.signal(number, _interrupt)
            _prepare()
            status = body()
        except Impossible as problem:
            print(f"chaos: {problem}", file=sys.stderr, flush=True)
            status = IMPOSSIBLE
        except KeyboardInterrupt:
            status = 130
        except BaseException:  # pylint: disable=broad-except
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)  # pylint: disable=protected-access
    for number in ENDING:
        signal.signal(number, lambda number, _: os.kill(child, number))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
