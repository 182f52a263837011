"""What a benchmark on a shared machine must say about that machine, read from /proc."""
import os
import pathlib
import platform
import resource
import subprocess

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def use_cores(count):
    """Keeps this process and its children on at most `count` cores; returns those in use."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[:count])
    return available[:count]


def allow_descriptors(count):
    """Raises the soft limit on open files, for a thousand connections in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def busy_seconds(cores):
    """Seconds that `cores` were not idle since the machine started, time stolen by other guests
    included."""
    names = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            # user nice system idle iowait irq softirq steal; what follows is counted in them.
            numbers = [int(field) for field in fields[:8]]
            ticks += sum(numbers) - numbers[3] - numbers[4]
    return ticks / _TICKS_PER_SECOND


def own_seconds():
    """Processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who)
              for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def process_seconds(pid):
    """Processor time of a running process."""
    # The name in parentheses may hold spaces.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_kib(pid):
    """Resident memory of a process. The roll-up is exact where /proc/PID/status may lag."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Rss in /proc/{pid}/smaps_rollup")


def first_line(command):
    """What a program says first; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def _processor_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def facts(cores):
    """Processor, kernel and versions, for the report."""
    return {
        "processor": _processor_model(),
        "cores": len(cores),
        "cores_of_machine": os.cpu_count(),
        "kernel": platform.release(),
        "swift": first_line(["swift", "--version"]),
        "openssl": first_line(["openssl", "version"]),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }
