import errno
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, assert_one_error

from pyimagesearch import config
from pyimagesearch.support import console

SCRIPTS = ("build_dataset", "extract_features", "train", "predict")
TOOLS = ("tools/get_dataset", "tools/get_sample", "tools/get_weights")


@pytest.fixture
def run(capsys):
    """Return a function that runs a main function: (exit status, stderr)."""

    def run(main):
        with pytest.raises(SystemExit) as exit_info:
            console.run(main)
        return exit_info.value.code, capsys.readouterr().err

    return run


def raising(failure):
    """Return a main function that raises an exception."""

    def main():
        raise failure

    return main


# Exit statuses and errors


@pytest.mark.parametrize("status", [0, 1, None])
def test_run_exits_with_the_status_that_main_returns(run, status):
    assert run(lambda: status) == (status, "")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (console.UserError("no such folder: photos. Make it"), "no such folder: photos. Make it"),
        (console.UserError("a\nb.jpg is missing"), "a b.jpg is missing"),
        (OSError(errno.ENOENT, "No such file", "a\nb\r\nc.jpg"), "a b c.jpg: No such file"),
        (OSError("cannot identify image"), "cannot identify image"),
    ],
)
def test_run_prints_an_error_of_the_user_on_one_line_and_exits_with_2(run, failure, message):
    assert run(raising(failure)) == (2, f"[ERROR] {message}\n")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "disk is full. Free some space"),
        (errno.EDQUOT, "quota is used up. Free some space"),
        (errno.EACCES, "permission denied. Change the permissions (chmod)"),
        (errno.EROFS, "read-only. Choose another folder"),
    ],
)
def test_run_prints_the_remedy_of_a_system_error(run, number, remedy):
    status, messages = run(raising(OSError(number, "x", "output/a.csv")))
    assert status == 2
    assert_one_error(messages, "output/a.csv", remedy)


@pytest.mark.parametrize(("platform", "is_told"), [("win32", True), ("linux", False)])
def test_path_that_is_too_long_for_windows_is_told_there(run, monkeypatch, platform, is_told):
    monkeypatch.setattr(console.sys, "platform", platform)
    path = f"dataset/{'a' * 260}.jpg"
    _, messages = run(raising(FileNotFoundError(errno.ENOENT, "No such file", path)))
    assert_one_error(messages, path)
    assert ("more than the 259 characters" in messages) == is_told


def test_run_recognizes_tensorflows_own_error_for_a_full_disk(run):
    class ResourceExhaustedError(Exception):
        pass

    failure = ResourceExhaustedError("output/variables; No space left on device")
    status, messages = run(raising(failure))
    assert status == 2
    assert_one_error(messages, "the disk is full. Free some space")


def test_run_names_the_package_when_opencv_misses_a_system_library(run, monkeypatch):
    """As on a server without a desktop."""
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    Path("cv2.py").write_text(f"raise ImportError({reason!r}, name='cv2')")
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    status, messages = run(lambda: importlib.import_module("cv2"))
    assert status == 2
    assert_one_error(messages, "library libGL.so.1. ", "apt-get install libgl1")


def test_run_keeps_the_traceback_of_a_bug():
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: 1 / 0)


def test_run_exits_quietly_when_the_reader_closes_the_pipe():
    """As in: predict.py --image photos | head."""
    code = (
        "from pyimagesearch.support import console\n"
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


def test_run_prints_file_names_that_are_not_unicode():
    code = (
        "import os\n"
        "from pyimagesearch.support import console\n"
        "console.run(lambda: console.show(os.fsdecode(b'caf\\xe9.jpg')))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert result.stdout == b"caf\\udce9.jpg\n"


def test_run_accepts_streams_that_cannot_be_reconfigured(monkeypatch):
    """As in Jupyter."""
    printed = []
    stream = SimpleNamespace(write=printed.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit):
        console.run(lambda: console.show("zebra: 64.32%"))
    assert "".join(printed) == "zebra: 64.32%\n"


CLOSED_STREAMS = """
import os
from pyimagesearch.support import console
def main():
    with console.silence_stderr(), open("photo.jpg", "wb") as photo:
        os.write({closed}, b"from a library in C++")
        photo.write(b"pixels")
    console.info("3 photos")
    console.show("zebra: 64.32%")
console.run(main)
"""


@pytest.mark.parametrize(
    ("closed", "out", "messages"), [(1, "", "[INFO] 3 photos\n"), (2, "zebra: 64.32%\n", "")]
)
def test_run_accepts_streams_that_the_shell_has_closed(monkeypatch, closed, out, messages):
    """As in `>&-` and `2>&-`. Without the other stream, nothing is written elsewhere."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-c", CLOSED_STREAMS.format(closed=closed)]
    shell = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command]
    result = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (out, messages)
    assert Path("photo.jpg").read_bytes() == b"pixels"


# Errors in config.py


def write_config(text):
    path = Path("pyimagesearch/config.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SEED = 42\nRECIPE = = 'food5k'\n",
            "line 2: invalid syntax, or a comma is missing at the end of the line before. The line "
            "is: RECIPE = = 'food5k'",
        ),
        (
            "A = dict(\n    a=1\n    b=2,\n)",
            "line 2: invalid syntax: perhaps you forgot a comma. The line is: a=1",
        ),
        ("SEED = 42\nRECIPES = {\n    'a': 1,\n", "line 2: '{' was never closed"),
        ("SEED = 42\n  RECIPE = 'food5k'\n", "line 2: unexpected indent"),
        ("SEED = 42\n\nRECIPES = {'a': Recipee()}", "line 3: NameError: name 'Recipee' is not def"),
        ("SEED = int(\n    [42]\n)\n", "line 1: TypeError: int() argument must be"),
        ("RECIPES = {}\nRECIPES['food5k']\n", "line 2: KeyError: 'food5k'"),
        ("from pathlib import Path\nPath('x').read_text()", "line 2: FileNotFoundError: [Errno 2]"),
        ("def size():\n    return x\n\nSIZE = size()\n", "line 4: NameError: name 'x' is not def"),
    ],
)
def test_error_in_config_is_one_line_with_its_line_number(run, text, message):
    path = write_config(text)
    status, messages = run(lambda: runpy.run_path(str(path)))
    assert status == 2
    assert messages.startswith(f"[ERROR] pyimagesearch/config.py, {message}")
    assert_one_error(messages)


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("epochs is 0", "pyimagesearch/config.py, line 2: epochs is 0"),
        (
            "pyimagesearch/config.py, recipe 'a': epochs is 0",
            "pyimagesearch/config.py, recipe 'a': epochs is 0",
        ),
    ],
)
def test_user_error_in_config_names_the_file_once(run, message, printed):
    path = write_config(
        f"from pyimagesearch.support.errors import UserError\nraise UserError({message!r})\n"
    )
    assert run(lambda: runpy.run_path(str(path))) == (2, f"[ERROR] {printed}\n")


def test_error_in_another_file_keeps_its_traceback():
    Path("other.py").write_text("RECIPE = = 'food5k'\n")
    with pytest.raises(SyntaxError):
        console.run(lambda: runpy.run_path("other.py"))


def test_error_after_the_import_of_config_keeps_its_traceback():
    path = write_config("def share():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: runpy.run_path(str(path))["share"]())


@pytest.mark.parametrize("broken", ["RECIPE = =", "RECIPE = food5k", "RECIPE = 'food5k' + 5"])
def test_script_with_a_broken_config_prints_one_error(broken):
    shutil.copytree(ROOT / "pyimagesearch", "pyimagesearch")
    shutil.copy(ROOT / "build_dataset.py", ".")
    path = Path("pyimagesearch/config.py")
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith("RECIPE ="))
    lines[number] = broken
    path.write_text("\n".join(lines))
    command = [sys.executable, "build_dataset.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert_one_error(result.stderr, f"pyimagesearch/config.py, line {number + 1}: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing; get"),
        (b"", "does not set RECIPES. Set it again, or get"),
        (b"SEED = 42\0", "is not a text in UTF-8. Save it as one, or get"),
    ],
)
def test_config_that_is_missing_empty_or_damaged_is_one_error(content, problem):
    shutil.copytree(ROOT / "pyimagesearch", "pyimagesearch")
    shutil.copy(ROOT / "build_dataset.py", ".")
    path = Path("pyimagesearch/config.py")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    command = [sys.executable, "build_dataset.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    restore = "the original back with: git restore pyimagesearch/config.py"
    assert_one_error(result.stderr, f"pyimagesearch/config.py {problem} {restore}")


# Messages


def test_results_go_to_stdout_and_messages_to_stderr(capsys):
    console.show("zebra: 64.32%")
    console.info("5 photos")
    console.warn("3 are small")
    console.error("1 is missing")
    printed = capsys.readouterr()
    assert printed.out == "zebra: 64.32%\n"
    assert printed.err == "[INFO] 5 photos\n[WARN] 3 are small\n[ERROR] 1 is missing\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
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
def test_duration_uses_the_units_of_people(seconds, text):
    assert console.duration(seconds) == text


def test_a_long_list_of_names_ends_with_how_many_more_there_are():
    names = [f"class{number}" for number in range(525)]
    assert console.listed(names[:3]) == "class0, class1, class2"
    assert console.listed(names).endswith(", class8, class9 and 515 more")
    # "and 1 more" would be as long as the name.
    assert console.listed(names[:11]).endswith(", class9, class10")


def test_command_can_be_pasted_into_a_shell():
    command = console.command("predict", "sample", "--image", "my photos/a.jpg")
    assert command == "python predict.py --recipe sample --image 'my photos/a.jpg'"


def test_silence_stderr_discards_messages_and_raises_exceptions(capfd):
    def load():
        with console.silence_stderr():
            os.write(2, b"from a library in C++\n")
            print("from Python", file=sys.__stderr__, flush=True)
            raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        load()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


# Arguments


def test_unknown_recipe_is_an_error_that_lists_the_known_ones(script):
    status, _, messages = script("build_dataset", "--recipe", "food12")
    assert status == 2
    assert_one_error(messages, "'food12'", ", ".join(config.RECIPES))


@pytest.mark.parametrize("name", ["build_dataset", "extract_features", "train"])
def test_unknown_argument_is_an_error_that_names_help(script, name):
    status, out, messages = script(name, "--nonsense")
    assert (status, out) == (2, "")
    assert messages.startswith("[ERROR] ")
    assert_one_error(messages, "--nonsense", "--help")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_goes_to_stdout_and_exits_with_0(script, name):
    status, out, messages = script(name, "--help")
    assert (status, messages) == (0, "")
    assert "--recipe NAME" in out
    assert " ".join(out.split()).endswith(console.EXIT_STATUSES)


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "many", ""])
def test_whole_number_refuses_other_arguments(text):
    parser = console.Parser("Predict.")
    parser.add_argument("--top", type=console.whole_number(1))
    assert parser.parse_args(["--top", "12"]).top == 12
    with pytest.raises(console.UserError, match=f"--top: {text!r} is not a whole number from 1"):
        parser.parse_args([f"--top={text}"])


@pytest.mark.parametrize("text", ["-0.1", "1.1", "85%", "nan", ""])
def test_fraction_refuses_other_arguments(text):
    parser = console.Parser("Predict.")
    parser.add_argument("--accuracy", type=console.fraction)
    assert [parser.parse_args([f"--accuracy={x}"]).accuracy for x in ("0", "0.85", "1")] == [
        *(0, 0.85, 1)
    ]
    with pytest.raises(console.UserError, match=f"--accuracy: {text!r} is not a number from 0 to"):
        parser.parse_args([f"--accuracy={text}"])


def seconds_of_children():
    """Return the processor time of the ended processes that this one started."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
@pytest.mark.parametrize("name", SCRIPTS + TOOLS)
def test_help_and_wrong_arguments_do_not_wait_for_tensorflow(name, argument):
    """A user waits half a second at most. Processor time does not depend on other processes."""
    before = seconds_of_children()
    result = subprocess.run(
        [sys.executable, "-X", "importtime", f"{name}.py", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seconds_of_children() - before < 1.5
    if argument == "--help":
        assert result.returncode == 0
    else:
        assert result.returncode == 2
        assert f"python {name}.py --help" in result.stderr
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "pyimagesearch.support.console" in imported
    assert not imported & {"tensorflow", "keras", "numpy"}


@pytest.mark.parametrize("setting", [None, "0"])
def test_package_turns_onednn_on_before_tensorflow_is_imported(monkeypatch, setting):
    """TensorFlow reads the variable once. A value that the user has set is kept."""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if setting is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    code = (
        "import os, sys, pyimagesearch\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.split() == [setting or "1", "False"], result.stderr


def test_package_sets_what_a_notebook_or_another_project_has_set(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code = "import os, pyimagesearch; print(os.environ['MPLBACKEND'], os.environ['KERAS_BACKEND'])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["agg", "tensorflow"]


def test_layout_and_float_type_are_the_projects_whatever_keras_json_says(monkeypatch):
    import keras

    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    keras.config.set_epsilon(0.1)
    console.import_tensorflow()
    assert keras.config.image_data_format() == "channels_last"
    assert (keras.config.floatx(), keras.config.epsilon()) == ("float32", 1e-7)


def test_another_backend_that_a_notebook_has_imported_is_an_error(run, monkeypatch):
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    status, messages = run(console.import_tensorflow)
    assert status == 2
    assert_one_error(messages, "Keras already uses torch in this notebook. Restart its kernel")


COUNT_THREADS = """
from pathlib import Path
from pyimagesearch.support import console, machine
machine.CONTAINER = Path(".")
console.import_tensorflow()
console.import_tensorflow()
from tensorflow.config import threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
"""


@pytest.mark.soak
@pytest.mark.parametrize(("limit", "threads"), [("100000 100000", "1"), ("max 100000", "0")])
def test_tensorflow_has_as_many_threads_as_its_container_has_cores(limit, threads):
    """0 stands for TensorFlow's default: one per core."""
    Path("cpu.max").write_text(limit)
    command = [sys.executable, "-c", COUNT_THREADS]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert run.stdout.split() == [threads, threads]


@pytest.mark.parametrize("name", SCRIPTS + TOOLS)
def test_help_needs_no_docstrings(name):
    """Python leaves them out with -OO."""
    command = [sys.executable, "-OO", f"{name}.py", "--help"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


# Progress


def test_progress_draws_the_bar_on_stderr_and_leaves_results_on_stdout(tmp_path):
    """As in: predict.py --image photos > predictions.csv, in a terminal."""
    code = (
        "from pyimagesearch.support import console\n"
        "with console.progress('photos', 2) as advance:\n"
        "    console.show('a result'); advance()\n"
        "    console.info('a message'); advance()\n"
    )
    reading_end, terminal = os.openpty()
    with open(tmp_path / "predictions.csv", "w") as predictions:
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=predictions,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
    os.close(terminal)
    screen = os.read(reading_end, 10_000).decode()
    os.close(reading_end)
    assert "photos" in screen
    assert "a message" in screen
    assert "result" not in screen
    assert (tmp_path / "predictions.csv").read_text() == "a result\n"


def test_progress_draws_no_bar_into_a_log_file(capsys, monkeypatch):
    # rich would draw it: CI services set this variable.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.progress("counting", 3) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_ctrl_c_prints_how_to_resume(run):
    status, messages = run(raising(KeyboardInterrupt()))
    assert status == 130
    assert messages == "\n[INFO] stopped. Run the same command again to resume\n"


def test_ctrl_c_prints_the_completed_steps(run):
    def main():
        with console.progress("checking photos", 4170) as advance:
            advance()
            advance(1200)
            raise KeyboardInterrupt

    _, messages = run(main)
    expected = "stopped (checking photos: 1,201 of 4,170). Run the same command again to resume"
    assert expected in messages


def test_ctrl_c_prints_bytes_as_megabytes(run):
    def main():
        with console.progress("unpacking", 82_784_653, in_bytes=True) as advance:
            advance(6_000_000)
            raise KeyboardInterrupt

    assert "stopped (unpacking: 6 of 83 MB). Run" in run(main)[1]


def test_progress_without_a_total_counts_nothing(run):
    def main():
        with console.progress("photos", None) as advance:
            advance()
            raise KeyboardInterrupt

    _, messages = run(main)
    assert "stopped. " in messages


# Times


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that a test sets: clock.now, in seconds."""
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(console, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_stopwatch_counts_seconds_since_it_was_made(clock):
    clock.now = 100
    stopwatch = console.Stopwatch()
    assert stopwatch.seconds == 0
    clock.now = 230
    assert stopwatch.seconds == 130
    assert str(stopwatch) == "2 min 10 s"


def test_stopwatch_adds_the_saved_seconds_of_interrupted_runs(clock):
    path = Path("output/seconds.json")
    for run in range(3):
        stopwatch = console.Stopwatch(path)
        assert stopwatch.seconds == 20 * run
        clock.now += 10
        stopwatch.save()
        clock.now += 10
        stopwatch.save()
        # The seconds after the last `save` are lost when a run is killed.
        clock.now += 5
    assert console.Stopwatch(path).seconds == 60


def test_stopwatch_removes_its_file_when_the_work_is_finished(clock):
    path = Path("seconds.json")
    stopwatch = console.Stopwatch(path)
    stopwatch.remove()
    clock.now += 10
    stopwatch.save()
    assert path.is_file()
    stopwatch.remove()
    assert not path.exists()
    assert console.Stopwatch(path).seconds == 0


def test_stopwatch_ignores_the_seconds_of_other_work(clock):
    path = Path("seconds.json")
    stopwatch = console.Stopwatch(path, key="20 epochs")
    clock.now += 10
    stopwatch.save()
    assert console.Stopwatch(path, key="20 epochs").seconds == 10
    assert console.Stopwatch(path, key="30 epochs").seconds == 0


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_stopwatch_saves_the_seconds_when_its_block_fails(clock, failure):
    path = Path("seconds.json")

    def work():
        with console.Stopwatch(path):
            clock.now += 10
            raise failure

    with pytest.raises(failure):
        work()
    assert console.Stopwatch(path).seconds == 10


def test_stopwatch_writes_nothing_when_its_block_ends(clock):
    with console.Stopwatch("seconds.json"):
        clock.now += 10
    assert not Path("seconds.json").exists()


def test_stopwatch_without_a_path_writes_nothing(tmp_path):
    stopwatch = console.Stopwatch()
    stopwatch.save()
    stopwatch.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    ["", "{", "[5]", "{}", *(json.dumps({"seconds": x}) for x in ("5", None, True, -5, 1e999))],
)
def test_stopwatch_ignores_a_damaged_file(clock, content):
    Path("seconds.json").write_text(content)
    assert console.Stopwatch("seconds.json").seconds == 0
