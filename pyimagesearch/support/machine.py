"""What this machine has: its processor, cores and instruction sets, a GPU, free memory."""

import math
import os
import platform
import subprocess
from pathlib import Path

# Files of Linux. The last one is a folder with the limits of a container (cgroup version 2).
CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
UNKNOWN_MEMORY = 2 * 1024**3  # bytes; assumed on Windows


def has_gpu():
    """Return True if TensorFlow computes on a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def description():
    """Return the processor, its cores and the system: "AMD EPYC 9R14, 2 cores, Linux x86_64".

    If this process may use some of the cores only, it says so: "2 of 64 cores".
    """
    usable, installed = usable_cores(), os.cpu_count()
    cores = f"{usable} cores" if usable == installed else f"{usable} of {installed} cores"
    system = f"{cores}, {platform.system()} {platform.machine()}"
    name = processor_name()
    return f"{name}, {system}" if name else system


def usable_cores():
    """Return how many cores this process can keep busy, at least 1.

    They are the cores that it may run on, but no more than the limit of its container: Docker's
    --cpus, Kubernetes' limits.cpu. A limit of one and a half counts as two.
    """
    cores = cores_to_run_on()
    try:
        quota, period = (CONTAINER / "cpu.max").read_text().split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        # There is no container, or its limit is "max".
        return cores


def cores_to_run_on():
    """Return the number of cores that the system runs this process on (its affinity)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS, Windows


def processor_name():
    """Return the name of the processor, or "" if the system does not give it."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()  # the name on Windows
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def processor_flags():
    """Return the names of the processor's instruction sets on Linux; elsewhere an empty set."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def computes_in_bfloat16():
    """Return True if the processor has instructions for bfloat16. Otherwise bfloat16 is slow."""
    return bool(processor_flags() & {"amx_bf16", "avx512_bf16"})


def available_memory():
    """Return how many bytes a process can use before the machine begins to swap.

    In a container this is at most what its limit leaves. On macOS it is half of the machine's
    memory, on Windows 2 GB.
    """
    try:
        lines = dict(line.split(":") for line in MEMORY_INFO.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024  # the file counts in KiB
    except (OSError, KeyError):
        if not hasattr(os, "sysconf"):
            return UNKNOWN_MEMORY
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        limit = int((CONTAINER / "memory.max").read_text())
        used = int((CONTAINER / "memory.current").read_text())
        lines = (CONTAINER / "memory.stat").read_text().splitlines()
        # Cached pages of files count as used, but Linux frees them when memory is needed.
        freeable = int(dict(line.split() for line in lines)["inactive_file"])
    except (OSError, ValueError, KeyError):
        # There is no container, or its limit is "max".
        return available
    return min(available, limit - used + freeable)
