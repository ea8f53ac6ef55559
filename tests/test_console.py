import errno
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT, assert_one_error

from pyimagesearch import config, console

SCRIPTS = ("build_dataset", "extract_features", "train", "predict")
TOOLS = ("tools/get_sample", "tools/get_weights", "tools/list_backbones")


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


def test_a_file_name_with_a_line_break_stays_on_one_line_in_a_system_error(capsys):
    status, said = run(capsys, OSError(errno.ENOENT, "No such file", "a\nb\r\nc.jpg"))
    assert (status, said) == (2, "[ERROR] a b c.jpg: No such file\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full. Free some space"),
        (errno.EDQUOT, "quota is used up. Free some space"),
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
    assert "stopped. To go on" in said
    assert "run the same command again" in said
    assert "[ERROR]" not in said


def test_ctrl_c_says_how_far_it_came(capsys):
    def main():
        with console.progress("checking and copying", 4170) as done:
            done()
            done(1200)
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        console.run(main)
    said = capsys.readouterr().err
    assert "stopped during checking and copying (1,201 of 4,170). To go on" in said


@pytest.mark.parametrize("status", [0, 1, None])
def test_a_script_ends_with_the_status_of_its_main_function(status):
    with pytest.raises(SystemExit) as ended:
        console.run(lambda: status)
    assert ended.value.code == status


def test_results_go_to_stdout_and_milestones_to_stderr(capsys):
    console.show("zebra: 64.32%")
    console.info("5 photos")
    console.warn("3 are small")
    said = capsys.readouterr()
    assert said.out == "zebra: 64.32%\n"
    assert said.err == "[INFO] 5 photos\n[WARN] 3 are small\n"


def test_a_defect_of_our_own_is_not_hidden(capsys):
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (27.4, "27 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (130, "2 min 10 s"),
        (3_599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds, words):
    assert console.duration(seconds) == words


def test_an_unknown_recipe_names_those_there_are(script):
    status, _, said = script("build_dataset", "--recipe", "food12")
    assert status == 2
    assert_one_error(said, "'food12'", ", ".join(config.RECIPES))


@pytest.mark.parametrize("name", ["build_dataset", "extract_features", "train"])
def test_an_unknown_argument_is_one_error_that_names_help(script, name):
    status, out, said = script(name, "--nonsense")
    assert (status, out) == (2, "")
    assert said.startswith("[ERROR] ")
    assert_one_error(said, "--nonsense", "--help")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_shown_and_ends_with_status_0(script, name):
    status, out, said = script(name, "--help")
    assert (status, said) == (0, "")
    assert "--recipe NAME" in out


def seconds_of_children():
    """Return how long the processes that this one ran and waited for have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
@pytest.mark.parametrize("name", SCRIPTS + TOOLS)
def test_help_and_wrong_arguments_do_not_wait_for_tensorflow(name, argument):
    """A user waits half a second at most. Computing counts, not waiting for a busy machine."""
    before = seconds_of_children()
    result = subprocess.run(
        [sys.executable, "-X", "importtime", f"{name}.py", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seconds_of_children() - before < 1.5
    assert result.returncode == (0 if argument == "--help" else 2)
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "pyimagesearch.console" in imported
    assert not imported & {"tensorflow", "keras", "numpy"}


@pytest.mark.parametrize("own", [None, "0"])
def test_onednn_is_asked_for_before_anything_here_can_import_tensorflow(monkeypatch, own):
    """TensorFlow reads it once; what a user has set stays."""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if own is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", own)
    code = (
        "import os, sys, pyimagesearch\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.split() == [own or "1", "False"], result.stderr


def test_answers_go_where_they_were_sent_and_not_above_the_bar(tmp_path):
    """As in: predict.py --image photos > answers.csv, in a terminal."""
    code = (
        "from pyimagesearch import console\n"
        "with console.progress('photos', 2) as done:\n"
        "    console.show('an answer'); done()\n"
        "    console.info('a message'); done()\n"
    )
    ours, theirs = os.openpty()
    with open(tmp_path / "answers.csv", "w") as answers:
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=answers,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
    os.close(theirs)
    seen = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "photos" in seen
    assert "a message" in seen
    assert "answer" not in seen
    assert (tmp_path / "answers.csv").read_text() == "an answer\n"


def test_a_reader_that_has_enough_ends_a_script_quietly():
    """As in: predict.py --image photos | head."""
    code = (
        "from pyimagesearch import console\n"
        "console.run(lambda: [console.show('x' * 1000) for _ in range(1000)])"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == console.PARTLY


def test_no_bar_is_drawn_into_a_log_file(capsys):
    with console.progress("counting", 3) as done:
        done()
    assert capsys.readouterr().err == ""


def test_waiting_counts_what_comes_late_and_nothing_else(monkeypatch):
    now = 0

    def take(seconds):
        nonlocal now
        now += seconds

    def late():
        for each in range(3):
            take(2)
            yield each

    monkeypatch.setattr(console, "time", SimpleNamespace(perf_counter=lambda: now))
    waiting = console.Waiting()
    for _ in waiting.over(late()):
        take(1)
    assert waiting.seconds == 6
    assert waiting.share == 6 / 9
