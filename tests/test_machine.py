import os

import pytest

from pyimagesearch.support import machine


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    """Replace /proc/cpuinfo by a file that a test writes."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPU_INFO", path)
    return path


def test_machine_is_described_by_its_processor_cores_and_system(cpu_info, monkeypatch):
    cpu_info.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9R14\n\nmodel name\t: second\n")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.description() == "AMD EPYC 9R14, 2 cores, Linux x86_64"
    # Processors of ARM have no name there.
    cpu_info.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert machine.description() == "2 cores, Linux x86_64"
    monkeypatch.setattr(machine.platform, "processor", lambda: "Intel64 Family 6")
    cpu_info.unlink()
    assert machine.description().startswith("Intel64 Family 6, 2 cores")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    assert machine.description() == "Intel64 Family 6, 2 of 64 cores, Linux x86_64"


@pytest.fixture
def affinity():
    """Return a function that lets this test run on some cores only."""
    before = os.sched_getaffinity(0)
    yield lambda cores: os.sched_setaffinity(0, cores)
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_cores_are_those_that_the_process_may_run_on(affinity, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    available = sorted(os.sched_getaffinity(0))
    assert machine.usable_cores() == len(available)
    for count in (1, 2):
        affinity(available[:count])
        assert machine.usable_cores() == min(count, len(available))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("damaged", 8),
        (None, 8),
    ],
)
def test_cores_are_at_most_the_limit_of_the_container(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    monkeypatch.setattr(machine, "cores_to_run_on", lambda: 8)
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert machine.usable_cores() == cores


def test_cores_are_those_of_the_machine_where_the_system_has_no_affinity(monkeypatch, tmp_path):
    """As on macOS and Windows."""
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 10)
    assert machine.usable_cores() == 10


@pytest.mark.parametrize(
    ("flags", "bfloat16"),
    [
        ("fpu sse2 avx2 avx512f avx512_bf16", True),
        ("fpu sse2 avx2 amx_bf16", True),
        ("fpu sse2 avx2 avx512f", False),
        ("fpu sse2", False),
    ],
)
def test_machine_reads_the_instruction_sets_of_the_processor(cpu_info, flags, bfloat16):
    cores = (f"processor\t: {core}\nflags\t\t: {flags}\nbugs\t\t: none\n\n" for core in range(2))
    cpu_info.write_text("".join(cores))
    assert set(flags.split()) <= machine.processor_flags()
    assert machine.computes_in_bfloat16() is bfloat16


def test_machine_has_no_instruction_sets_when_the_system_does_not_list_them(cpu_info):
    assert not cpu_info.exists()
    assert machine.processor_flags() == set()
    assert not machine.computes_in_bfloat16()


@pytest.mark.parametrize(
    ("limit", "available"),
    [("max", 8e9), ("2000000000", 1.6e9), ("20000000000", 8e9), (None, 8e9)],
)
def test_available_memory_is_at_most_what_a_container_may_use(
    tmp_path, monkeypatch, limit, available
):
    """Cached pages of files count as used, but they can be freed."""
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    7812500 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    (tmp_path / "memory.stat").write_text("anon 400000000\ninactive_file 600000000\n")
    assert machine.available_memory() == available


def test_available_memory_is_half_of_all_when_the_system_does_not_report_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "missing")
    monkeypatch.setattr(machine, "CONTAINER", tmp_path)
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(machine.os, "sysconf", sizes.get)
    assert machine.available_memory() == 500 * 4096


def test_available_memory_of_this_machine_is_plausible():
    assert 1e8 < machine.available_memory() < 1e14


def test_memory_is_assumed_to_be_small_where_it_cannot_be_read(monkeypatch, tmp_path):
    """As on Windows."""
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "none")
    monkeypatch.delattr(machine.os, "sysconf")
    assert machine.available_memory() == 2 * 1024**3
