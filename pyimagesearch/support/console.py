"""Everything a script prints: milestones, progress, results, and errors on one line."""

import argparse
import errno
import importlib.util
import math
import os
import shlex
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from pyimagesearch.support import files, machine
from pyimagesearch.support.errors import UserError

PARTLY, MISTAKE, STOPPED = 1, 2, 130
EXIT_STATUSES = (
    f"Exit status: 0 if everything worked; {PARTLY} if some photos could not be read, the accuracy "
    f"is too low, or the reader closed the pipe; {MISTAKE} after an error; {STOPPED} after Ctrl-C."
)

CONFIG = "pyimagesearch/config.py"

REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or set DATASET_DIR and OUTPUT_DIR in "
    f"{CONFIG} to folders on another disk, and run the same command again",
    errno.EDQUOT: "your disk quota is used up. Free some space and run the same command again",
    errno.EACCES: "permission denied. Change the permissions (chmod), or choose another folder in "
    f"{CONFIG}",
    errno.EROFS: f"the disk is read-only. Choose another folder in {CONFIG}",
}
LONGEST_PATH = 259  # characters, on Windows unless long paths are turned on
LONG_PATH = (
    f"it has more than the {LONGEST_PATH} characters that Windows allows. Move the project to a "
    f"folder with a short path, or turn on long paths in Windows"
)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError for wrong arguments.

    The first line of `text`, the docstring of a script, is its description in --help.
    """

    def __init__(self, text, **options):
        # Without docstrings (python -OO), `text` is None.
        super().__init__(description=(text or "").partition("\n")[0], **options)

    def error(self, message):
        raise UserError(f"{message}. For the allowed arguments, run: python {sys.argv[0]} --help")


def info(message):
    """Print a milestone. Messages go to stderr, so that a pipe gets results only."""
    print(f"[INFO] {message}", file=sys.stderr, flush=True)


def warn(message):
    """Print a problem that does not stop the script."""
    print(f"[WARN] {message}", file=sys.stderr, flush=True)


def error(message):
    """Print an error on one line, even if a file name in it contains line breaks."""
    print(f"[ERROR] {' '.join(str(message).splitlines())}", file=sys.stderr, flush=True)


def show(text):
    """Print a result."""
    print(text, flush=True)


def argument_parser(text):
    """Return a Parser with the argument that all scripts share, --recipe."""
    parser = Parser(text, epilog=EXIT_STATUSES)
    parser.add_argument("--recipe", metavar="NAME", help=f"a recipe of {CONFIG}")
    return parser


def whole_number(smallest):
    """Return an argument type: a whole number of at least `smallest`."""

    def parse(text):
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {smallest}")
        return int(text)

    return parse


def fraction(text):
    """Return the number from 0 to 1 that an argument stands for, such as 0.85."""
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1, such as 0.85")


def listed(names, limit=10):
    """Return names with commas between them: all, or the first ones and how many more there are."""
    names = list(names)
    if len(names) <= limit + 1:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit:,} more"


def command(script, recipe, *arguments):
    """Return the shell command that runs a script for a recipe."""
    return shlex.join(["python", f"{script}.py", "--recipe", recipe, *map(str, arguments)])


def require_package(package, feature, requirements="requirements-extras.txt"):
    """Raise UserError if an optional package is not installed."""
    if importlib.util.find_spec(package) is None:
        remedy = f"Install it with: pip install -r {requirements}"
        raise UserError(f"{feature} needs the package {package}, which is not installed. {remedy}")


def run(main):
    """Run a script's main function and end the process with its exit status.

    An error that the user can fix is printed as one [ERROR] line. Any other exception is a bug in
    this project and keeps its traceback.
    """
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # The bytes of a file name may be invalid Unicode. Messages print them as \udc...
        # Streams of Jupyter cannot be reconfigured.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except KeyboardInterrupt as interruption:
        # The terminal has printed ^C on the current line.
        print(file=sys.stderr)
        position = f" ({interruption})" if str(interruption) else ""
        info(f"stopped{position}. Run the same command again to resume")
        status = STOPPED
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = PARTLY
    except Exception as failure:
        message = describe(failure)
        if message is None:
            raise
        error(message)
        status = MISTAKE
    sys.exit(status)


def open_closed_streams():
    """Discard what is written to stdout and stderr if the shell has closed them (>&-, 2>&-).

    Otherwise the next file that is opened would get their number, and messages of C++ code.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def describe(failure):
    """Return the message for an exception that the user can fix, or None for a bug."""
    line = config_line(failure)
    if isinstance(failure, UserError):
        message = str(failure)
    elif damage := describe_damaged_config(failure):
        message = damage
    elif line is not None and isinstance(failure, SyntaxError):
        message = describe_syntax_error(failure)
    elif line is not None:
        # As at the end of a traceback: "NameError: name 'Fase' is not defined".
        message = "".join(traceback.format_exception_only(failure)).strip()
    elif isinstance(failure, OSError):
        message = describe_os_error(failure)
    elif isinstance(failure, ImportError) and failure.name == "cv2" and ".so" in str(failure):
        # OpenCV can open windows; servers and slim containers lack the libraries for that.
        library = str(failure).partition(":")[0]
        remedy = "On Debian and Ubuntu, install it with: apt-get install libgl1 libglib2.0-0"
        message = f"OpenCV needs the system library {library}. {remedy}"
    elif os.strerror(errno.ENOSPC) in str(failure):
        # TensorFlow has its own exception for a full disk.
        message = REMEDIES[errno.ENOSPC]
    else:
        return None
    if line is not None and not message.startswith(CONFIG):
        message = f"{CONFIG}, line {line}: {message}"
    return message


def describe_os_error(failure):
    """Return the message for an OSError: the file, the system's reason, and often a remedy."""
    message = REMEDIES.get(failure.errno) or str(failure.strerror or failure)
    if not failure.filename:
        return message
    if sys.platform == "win32" and len(os.path.abspath(failure.filename)) > LONGEST_PATH:
        message = LONG_PATH
    return f"{failure.filename}: {message}"


def describe_damaged_config(failure):
    """Return the message if config.py is missing, is no text, or has lost a setting; else None."""
    text, restore = str(failure), f"get the original back with: git restore {CONFIG}"
    if isinstance(failure, ImportError) and text.startswith("cannot import name 'config'"):
        return f"{CONFIG} is missing; {restore}"
    if isinstance(failure, AttributeError) and "'pyimagesearch.config' has no attr" in text:
        return f"{CONFIG} does not set {failure.name}. Set it again, or {restore}"
    # Which of the two it is depends on the version of Python, and it does not name the file.
    if isinstance(failure, (SyntaxError, ValueError)) and "null bytes" in text:
        config = Path(__file__).resolve().parent.parent / "config.py"
        if b"\0" not in config.read_bytes():
            return None
        return f"{CONFIG} is not a text in UTF-8. Save it as one, or {restore}"
    return None


def describe_syntax_error(failure):
    """Return the message for a line that Python cannot read, with the line."""
    message = failure.msg.removesuffix("?").replace(". Perhaps you", ": perhaps you")
    if message == "invalid syntax":
        # Python finds some missing commas only on the next line.
        message += ", or a comma is missing at the end of the line before"
    line = (failure.text or "").strip()
    return f"{message}. The line is: {line}" if line else message


def config_line(failure):
    """Return the number of the line in config.py at which its import failed, or None."""
    frames = traceback.extract_tb(failure.__traceback__)
    if isinstance(failure, SyntaxError):
        # A file that cannot be parsed has no frame in the traceback.
        frames = [traceback.FrameSummary(failure.filename or "", failure.lineno, "<module>")]
    for frame in reversed(frames):
        if frame.name == "<module>" and frame.filename.endswith(CONFIG):
            return frame.lineno
    return None


def duration(seconds):
    """Return a time in the units that people use: 0.4 s, 27 s, 2 min 10 s, 3 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def silence_stderr():
    """Discard what libraries write to stderr. Exceptions are raised as usual.

    C++ code writes to the file descriptor, not to sys.stderr.
    """
    sys.stderr.flush()
    with open(os.dup(2), "w") as stderr, open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), 2)


def import_tensorflow():
    """Import TensorFlow, which takes seconds, without its page of messages on CUDA and oneDNN.

    It prints some of them before it reads any setting, so no setting can turn them off. Keras
    computes with it as this project expects, whatever the user's ~/.keras/keras.json says.
    """
    with silence_stderr():
        import tensorflow as tf

        limit_threads()
        tf.config.list_physical_devices()
    # It warns if several networks are traced. A script with several networks has to trace them.
    tf.get_logger().setLevel("ERROR")
    import keras

    if (backend := keras.config.backend()) != "tensorflow":
        raise UserError(f"Keras already uses {backend} in this notebook. Restart its kernel")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)


def limit_threads():
    """Let TensorFlow compute with as many threads as its container may use cores.

    It sees all cores that it may run on. With a thread on each, the limit of the container would
    stop them all again and again.
    """
    from tensorflow.config import threading

    cores = machine.usable_cores()
    if cores < machine.cores_to_run_on():
        # In a notebook, TensorFlow may be running. Then it keeps the threads that it has.
        with suppress(RuntimeError):
            threading.set_intra_op_parallelism_threads(cores)
            threading.set_inter_op_parallelism_threads(cores)


class Stopwatch:
    """Measures the seconds since it was made, and those of earlier runs that were interrupted.

    They are in the JSON file at `path`, if there is one that is intact. The `key` stands for the
    work that is measured. In a `with` block, an exception saves the seconds.
    """

    def __init__(self, path=None, key=""):
        self.path, self.key, self.start = path, key, time.perf_counter()
        saved = (files.read_json(path) if path is not None else None) or {}
        seconds = saved.get("seconds") if saved.get("key", key) == key else None
        is_valid = type(seconds) in (int, float) and 0 <= seconds < math.inf
        self.earlier_seconds = seconds if is_valid else 0

    @property
    def seconds(self):
        """The seconds of this run and of earlier ones."""
        return self.earlier_seconds + time.perf_counter() - self.start

    def save(self):
        """Write the seconds to the file, for the next run."""
        if self.path is not None:
            files.write_json(self.path, {"key": self.key, "seconds": round(self.seconds, 3)})

    def __enter__(self):
        return self

    def __exit__(self, exception_type, *_):
        if exception_type is not None:
            self.save()

    def remove(self):
        """Delete the file, when the work is finished."""
        if self.path is not None:
            files.remove(Path(self.path))

    def __str__(self):
        return duration(self.seconds)


@contextmanager
def progress(description, total, in_bytes=False):
    """Show a progress bar, and give a function that advances it by a number of steps (1).

    The bar is drawn only if stderr is a terminal, so that a log file contains milestones only.
    After Ctrl-C the script prints how many of the `total` steps were completed. If `total` is
    None, there is no bar and no count. `in_bytes`: a step is a byte, and the bar shows MB.
    """
    if total is None:
        yield lambda steps=1: None
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.DownloadColumn() if in_bytes else bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
        # rich would print results above the bar, on stderr, even if the user redirects stdout.
        redirect_stdout=False,
        disable=not (sys.stderr.isatty() and console.is_interactive),
    ) as bar:
        task = bar.add_task(description, total=total)
        try:
            yield lambda steps=1: bar.advance(task, steps)
        except KeyboardInterrupt as interruption:
            completed, unit = bar.tasks[0].completed, ""
            if in_bytes:
                completed, total, unit = round(completed / 1e6), round(total / 1e6), " MB"
            position = f"{completed:,} of {total:,}{unit}"
            raise KeyboardInterrupt(f"{description}: {position}") from interruption
