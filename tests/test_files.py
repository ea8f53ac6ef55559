import errno
import os
import subprocess
import sys
from pathlib import Path

import portalocker
import pytest
from conftest import ROOT

from pyimagesearch.support import files
from pyimagesearch.support.errors import UserError


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path, failure):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def write_half():
        with files.atomic_write(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_replaces_the_old_file_when_the_block_ends(tmp_path):
    path = tmp_path / "new folder" / "a.csv"
    for text in ("first", "second"):
        with files.atomic_write(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_replaces_a_folder_with_its_content(tmp_path):
    path = tmp_path / "saved_model"
    for name in ("old", "new"):
        with files.atomic_write(path) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert list(path.iterdir()) == [path / "new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["vgg16.weights.h5", "model.keras", "warmup.png", "a.b.c.skops"])
def test_atomic_write_gives_a_path_with_the_suffix_of_the_format(tmp_path, name):
    with files.atomic_write(tmp_path / name) as partial:
        assert partial.name.endswith("".join((tmp_path / name).suffixes[-2:]))
        partial.touch()


@pytest.mark.parametrize(
    "name",
    ["x" * 251 + ".jpg", "x" * 244 + ".weights.h5", "x." + "y" * 253, "\N{HIRAGANA LETTER A}" * 85],
)
def test_atomic_write_accepts_a_name_as_long_as_the_file_system_allows(tmp_path, name):
    assert len(name.encode()) in (254, 255)
    with files.atomic_write(tmp_path / name) as partial:
        partial.write_text("complete")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "complete"


def test_atomic_write_gives_two_writers_of_one_file_different_paths(tmp_path):
    path = tmp_path / "a.csv"
    with files.atomic_write(path) as first:
        first.write_text("first")
        with files.atomic_write(path) as second:
            second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def open_elsewhere(monkeypatch):
    """Return a function that lets Windows refuse to replace a file so many times."""
    replace, refusals = os.replace, []

    def refuse_first(source, target):
        if refusals:
            refusals.pop()
            raise PermissionError(errno.EACCES, "The process cannot access the file", source)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse_first)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(files.sys, "platform", "win32")
    return lambda times: refusals.extend(range(times))


def test_file_that_a_virus_scanner_has_open_for_a_moment_is_replaced_on_windows(open_elsewhere):
    open_elsewhere(len(files.PAUSES_SECONDS))
    files.write_text("history.csv", "new")
    assert Path("history.csv").read_text() == "new"


def test_file_that_another_program_has_open_is_one_error_on_windows(open_elsewhere):
    Path("history.csv").write_text("old")
    open_elsewhere(len(files.PAUSES_SECONDS) + 1)
    with pytest.raises(UserError, match=r"^history.csv cannot be replaced.*close it there"):
        files.write_text("history.csv", "new")
    assert Path("history.csv").read_text() == "old"
    assert [path.name for path in Path().iterdir()] == ["history.csv"]


def test_folder_without_permission_is_the_systems_error_elsewhere(open_elsewhere, monkeypatch):
    monkeypatch.setattr(files.sys, "platform", "linux")
    open_elsewhere(1)
    with pytest.raises(PermissionError):
        files.write_text("history.csv", "new")


def test_write_json_keeps_the_old_file_when_the_value_cannot_be_written(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        files.write_json(path, {"accuracy": object()})
    assert files.read_json(path) == {"accuracy": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_read_json_returns_what_write_json_wrote(tmp_path):
    files.write_json(tmp_path / "classes.json", ["Crème brûlée", "Noodles/Pasta"])
    assert files.read_json(tmp_path / "classes.json", list) == ["Crème brûlée", "Noodles/Pasta"]


def test_read_json_returns_none_when_the_file_is_missing_or_damaged(tmp_path):
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"accuracy": ')
    assert files.read_json(tmp_path / "half.json") is None
    assert files.read_json(tmp_path / "half.json" / "below.json") is None
    (tmp_path / "empty.json").touch()
    assert files.read_json(tmp_path / "empty.json") is None
    (tmp_path / "binary.json").write_bytes(bytes(range(128, 255)))
    assert files.read_json(tmp_path / "binary.json") is None


def test_read_json_returns_none_when_the_value_is_of_another_kind(tmp_path):
    files.write_json(tmp_path / "a.json", ["x"])
    assert files.read_json(tmp_path / "a.json") is None
    assert files.read_json(tmp_path / "a.json", list) == ["x"]


def test_first_sentence_is_one_line_without_its_full_stop():
    assert files.first_sentence(ValueError("no room\n on disk. Try later.")) == "no room on disk"
    assert files.first_sentence(KeyError()) == "KeyError"


def test_file_stamp_changes_with_the_size_and_with_the_time(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("a")
    os.utime(path, ns=(0, 5))
    first = files.file_stamp(path)
    os.utime(path, ns=(0, 6))
    later = files.file_stamp(path)
    path.write_text("ab")
    os.utime(path, ns=(0, 6))
    assert len({first, later, files.file_stamp(path)}) == 3


def test_printable_replaces_bytes_of_a_file_name_that_are_not_utf8():
    assert files.printable(os.fsdecode("Crème ".encode() + b"caf\xe9.jpg")) == "Crème caf?.jpg"


LOCK_FOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from pyimagesearch.support import files
with files.locked("output/tiny", shared={shared}):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_run():
    """Return a function that lets another process lock output/tiny, and one that kills it."""
    processes = []

    def lock(shared):
        code = LOCK_FOLDER.format(root=str(ROOT), shared=shared)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "locked\n"

    def kill():
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()

    yield lock, kill
    kill()


def test_locked_refuses_a_folder_until_the_other_run_has_ended(other_run):
    lock, kill = other_run
    lock(shared=False)
    for shared in (False, True):
        with pytest.raises(UserError, match="another run is using output/tiny"):
            files.locked("output/tiny", shared).__enter__()
    kill()
    with files.locked("output/tiny"):
        pass


def test_locked_lets_several_runs_read_a_folder(other_run):
    with files.locked("output/tiny"):
        pass
    lock, _ = other_run
    lock(shared=True)
    with files.locked("output/tiny", shared=True):
        pass
    with pytest.raises(UserError, match="another run is using output/tiny"):
        files.locked("output/tiny").__enter__()


def test_locked_writes_nothing_into_a_folder_that_is_only_read(tmp_path):
    with files.locked(tmp_path, shared=True):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_locked_opens_the_lock_file_as_nfs_requires(tmp_path, monkeypatch, shared):
    """NFS locks a file exclusively only if it is open for writing, and shared only for reading."""

    def lock(file, kind):
        if kind & portalocker.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")
        if kind & portalocker.LOCK_SH and not file.readable():
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(portalocker, "lock", lock)
    for next_shared in (False, shared, False):
        with files.locked(tmp_path, next_shared):
            pass


def test_locked_continues_on_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("portalocker.portalocker.LOCKER", flock)
    with files.locked(tmp_path):
        pass


def test_locked_deletes_the_unfinished_files_of_ended_processes_only(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / "subfolder" / f".0123456789ab.{ended.pid}.partial.keras"
    leftover.parent.mkdir()
    leftover.write_text("half")
    leftover_folder = tmp_path / f".0123456789ab.{ended.pid}.partial"
    (leftover_folder / "variables").mkdir(parents=True)
    users_file = tmp_path / f".hidden.{ended.pid}.partial.jpg"
    users_file.write_text("not made by atomic_write")
    with files.atomic_write(tmp_path / "metrics.json") as partial:
        partial.write_text("half")
        with files.locked(tmp_path):
            pass
        assert partial.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"subfolder", "metrics.json", files.LOCK, users_file.name}
    assert not leftover.exists()


def test_leftovers_on_windows_are_deleted_without_a_signal_unless_a_process_has_them_open(
    tmp_path, monkeypatch
):
    """There, os.kill ends the process, and an open file cannot be deleted."""
    open_file, leftover, own = (
        tmp_path / f".{number:012}.{process}.partial.png"
        for number, process in enumerate((os.getppid(), os.getppid(), os.getpid()))
    )
    for path in (open_file, leftover, own):
        path.write_text("half")
    remove = files.remove

    def remove_closed(path):
        if path == open_file:
            raise PermissionError(errno.EACCES, "used by another process")
        remove(path)

    monkeypatch.setattr(files, "remove", remove_closed)
    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was ended"))
    files.delete_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == [open_file, own]
