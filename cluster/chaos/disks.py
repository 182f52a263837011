"""Disks that fill up, and disks that are slow."""
import errno
import pathlib
import shutil
import subprocess

from isolation import Impossible, shell

SOURCE = pathlib.Path(__file__).resolve().parent / "slow_fsync.c"
CHUNK = bytes(1 << 16)


def compile_slow_fsync(folder):
    """The library to preload."""
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("neither clang nor cc is installed")
    library = pathlib.Path(folder) / "slow_fsync.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Disk:
    """A node's state folder."""

    def __init__(self, folder, control):
        self.folder = pathlib.Path(folder)
        self.control = pathlib.Path(control)
        self.is_small = False
        self.ballast = self.folder / "ballast"

    def make_small(self, mebibytes):
        """What lies in the folder moves to a file system of its own, which is full soon."""
        aside = self.folder.with_name(self.folder.name + ".aside")
        self.folder.rename(aside)
        self.folder.mkdir()
        shell("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(self.folder))
        shutil.copytree(aside, self.folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        self.is_small = True

    def fill(self):
        if not self.is_small:
            raise Impossible("only small disks are filled: 'start with 5 slaves on small disks'")
        try:
            with open(self.ballast, "ab", buffering=0) as file:
                while True:
                    file.write(CHUNK)
        except OSError as problem:
            if problem.errno != errno.ENOSPC:
                raise

    def slow(self, milliseconds):
        # Read at any moment by the daemon: never half a number.
        temporary = self.control.with_suffix(".new")
        temporary.write_text(f"{milliseconds}\n")
        temporary.rename(self.control)

    def mend(self):
        self.ballast.unlink(missing_ok=True)
        self.control.unlink(missing_ok=True)

    def remove(self):
        if self.is_small:
            shell("umount", "-l", str(self.folder))
            self.is_small = False
