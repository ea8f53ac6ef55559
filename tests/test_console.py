import errno
import subprocess
import sys
import time

import pytest
from conftest import ROOT, assert_one_error

from pyimagesearch import console

SCRIPTS = ("build_dataset", "extract_features", "train", "predict")


def run(capsys, failure):
    """Run a main function that raises; return its exit status and what was said."""

    def main():
        raise failure

    with pytest.raises(SystemExit) as ended:
        console.run(main)
    return ended.value.code, capsys.readouterr().err


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    status, said = run(capsys, console.UserError("no such folder: photos. Make it"))
    assert (status, said) == (2, "[ERROR] no such folder: photos. Make it\n")


def test_a_file_name_with_a_line_break_stays_on_one_line(capsys):
    status, said = run(capsys, console.UserError("a\nb.jpg is missing"))
    assert (status, said) == (2, "[ERROR] a b.jpg is missing\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
    ],
)
def test_what_the_system_refuses_comes_with_its_remedy(capsys, number, words):
    status, said = run(capsys, OSError(number, "x", "output/a.csv"))
    assert status == 2
    assert_one_error(said, "output/a.csv", words)


def test_ctrl_c_says_how_to_go_on(capsys):
    status, said = run(capsys, KeyboardInterrupt())
    assert status == 130
    assert "run the same command again" in said


def test_a_defect_of_our_own_is_not_hidden(capsys):
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (27.4, "27 s"),
        (59.6, "1 min 00 s"),
        (130, "2 min 10 s"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds, words):
    assert console.duration(seconds) == words


def test_an_unknown_recipe_names_those_there_are(script):
    status, _, said = script("build_dataset", "--recipe", "food12")
    assert status == 2
    assert_one_error(said, "'food12'", "food5k, food11")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_wrong_arguments_do_not_wait_for_tensorflow(name):
    """Half a second is what a user waits; twice that is allowed here for a busy machine."""
    for arguments, status in ((["--help"], 0), (["--nonsense"], 2)):
        watch = f"import sys, {name}, pyimagesearch.console as c; c.run(lambda: {name}.main())"
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", watch, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert time.perf_counter() - start < 1
        assert result.returncode == status
        assert "tensorflow" not in result.stderr
        assert "numpy" not in result.stderr


def test_no_bar_is_drawn_into_a_log_file(capsys):
    with console.progress("counting", 3) as done:
        done()
    assert capsys.readouterr().err == ""
