import errno
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from pyimagesearch import files
from pyimagesearch.console import UserError


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_file_that_is_not_finished_leaves_the_old_one_and_nothing_else(tmp_path, failure):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def write_half():
        with files.whole(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "a.csv"
    for text in ("first", "second"):
        with files.whole(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["vgg16.weights.h5", "model.keras", "warmup.png", "a.b.c.skops"])
def test_the_partial_file_ends_as_its_format_needs(tmp_path, name):
    with files.whole(tmp_path / name) as partial:
        assert partial.name.endswith("".join((tmp_path / name).suffixes[-2:]))
        partial.touch()


@pytest.mark.parametrize(
    "name",
    ["x" * 251 + ".jpg", "x" * 244 + ".weights.h5", "x." + "y" * 253, "\N{HIRAGANA LETTER A}" * 85],
)
def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path, name):
    assert len(name.encode()) in (254, 255)
    with files.whole(tmp_path / name) as partial:
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "whole"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.csv"
    with files.whole(path) as first:
        first.write_text("first")
        with files.whole(path) as second:
            second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        files.write_json(path, {"accuracy": object()})
    assert files.read_json(path) == {"accuracy": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_as_it_was(tmp_path):
    files.write_json(tmp_path / "classes.json", ["Crème brûlée", "Noodles/Pasta"])
    assert files.read_json(tmp_path / "classes.json", list) == ["Crème brûlée", "Noodles/Pasta"]


def test_json_that_is_missing_or_damaged_is_none(tmp_path):
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"accuracy": ')
    assert files.read_json(tmp_path / "half.json") is None
    assert files.read_json(tmp_path / "half.json" / "below.json") is None
    (tmp_path / "empty.json").touch()
    assert files.read_json(tmp_path / "empty.json") is None
    (tmp_path / "binary.json").write_bytes(bytes(range(128, 255)))
    assert files.read_json(tmp_path / "binary.json") is None


def test_json_of_another_kind_than_asked_for_is_none(tmp_path):
    files.write_json(tmp_path / "a.json", ["x"])
    assert files.read_json(tmp_path / "a.json") is None
    assert files.read_json(tmp_path / "a.json", list) == ["x"]


def test_digest_changes_with_every_part():
    assert files.digest("a", 1) == files.digest("a", 1)
    assert len({files.digest("a", 1), files.digest("a", 2), files.digest("a1")}) == 3


def test_the_first_sentence_of_a_failure_is_one_line_without_its_stop():
    assert files.first_sentence(ValueError("no room\n on disk. Try later.")) == "no room on disk"
    assert files.first_sentence(KeyError()) == "KeyError"


def test_a_stamp_changes_with_the_size_and_with_the_time(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("a")
    os.utime(path, ns=(0, 5))
    first = files.file_stamp(path)
    os.utime(path, ns=(0, 6))
    later = files.file_stamp(path)
    path.write_text("ab")
    os.utime(path, ns=(0, 6))
    assert len({first, later, files.file_stamp(path)}) == 3


HOLD = """
import sys, time
sys.path.insert(0, {root!r})
from pyimagesearch import files
from pyimagesearch.console import UserError
with files.held("output/tiny", shared={shared}):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_run():
    """Return a function that lets another process hold output/tiny, and one that kills it."""
    processes = []

    def hold(shared):
        code = HOLD.format(root=str(ROOT), shared=shared)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"

    def kill():
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()

    yield hold, kill
    kill()


def test_a_second_run_on_the_same_folder_says_so_and_stops(other_run):
    hold, kill = other_run
    hold(shared=False)
    for shared in (False, True):
        with pytest.raises(UserError, match="another run is at work on output/tiny"):
            files.held("output/tiny", shared).__enter__()
    # However the other ends, the folder is free.
    kill()
    with files.held("output/tiny"):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_on_nfs_is_held_again_and_again(tmp_path, monkeypatch, shared):
    """NFS gives a lock for one alone only to who may write; a reader may not be allowed to."""

    def flock(file, kind):
        if kind & files.fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "Bad file descriptor")
        assert not (kind & files.fcntl.LOCK_SH and file.writable())

    monkeypatch.setattr(files.fcntl, "flock", flock)
    for each in (False, shared, False):
        with files.held(tmp_path, each):
            pass


def test_runs_that_only_read_do_not_mind_each_other(other_run):
    with files.held("output/tiny"):
        pass
    hold, _ = other_run
    hold(shared=True)
    with files.held("output/tiny", shared=True):
        pass
    with pytest.raises(UserError, match="another run"):
        files.held("output/tiny").__enter__()


def test_what_a_killed_process_left_is_swept_away_and_what_a_living_one_writes_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / "below" / f".0123456789ab.{ended.pid}.partial.keras"
    left.parent.mkdir()
    left.write_text("half")
    exported = tmp_path / f".0123456789ab.{ended.pid}.partial"
    (exported / "variables").mkdir(parents=True)
    mine = tmp_path / f".hidden.{ended.pid}.partial.jpg"
    mine.write_text("a user's own")
    with files.whole(tmp_path / "metrics.json") as partial:
        partial.write_text("half")
        with files.held(tmp_path):
            pass
        assert partial.exists()
    assert {each.name for each in tmp_path.iterdir()} == {
        *("below", "metrics.json", files.LOCK, mine.name)
    }
    assert not left.exists()
