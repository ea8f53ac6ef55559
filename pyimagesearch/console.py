"""What the user sees: milestones, progress, results, and a mistake as one line."""

import argparse
import errno
import importlib.util
import os
import shlex
import sys
import time
from contextlib import contextmanager
from pathlib import Path

# Exit statuses: 1 = done, but photos could not be read or the accuracy asked for was not reached,
# 2 = a mistake, 130 = Ctrl-C (128 + SIGINT).
PARTLY, MISTAKE, STOPPED = 1, 2, 130

REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or set DATASET_DIR and OUTPUT_DIR in "
    "pyimagesearch/config.py to folders on another disk, and run the same command again",
    errno.EDQUOT: "your disk quota is used up. Free some space and run the same command again",
    errno.EACCES: "permission denied. Give yourself the right to it (chmod), or choose another "
    "folder in pyimagesearch/config.py",
    errno.EROFS: "that disk is read-only. Choose another folder in pyimagesearch/config.py",
}


class UserError(ValueError):
    """Something the user can mend: what is wrong, the value seen, what mends it."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors look like every other mistake."""

    def error(self, message):
        raise UserError(f"{message}. What is allowed: python {self.prog} --help")


def info(message):
    """Report a milestone. Messages go to stderr, results to stdout, so a pipe gets only results."""
    print(f"[INFO] {message}", file=sys.stderr, flush=True)


def warn(message):
    """Report something that will surprise the user later, and go on."""
    print(f"[WARN] {message}", file=sys.stderr, flush=True)


def error(message):
    """Report a mistake on one line, whatever line breaks a file name brings into it."""
    print(f"[ERROR] {' '.join(str(message).splitlines())}", file=sys.stderr, flush=True)


def show(text):
    """Print a result."""
    print(text, flush=True)


def parser(description):
    """Return a parser that knows --recipe, which every script takes."""
    arguments = Parser(description=description)
    arguments.add_argument("--recipe", metavar="NAME", help="a row of pyimagesearch/config.py")
    return arguments


def find_recipe(name):
    """Return the row called `name`, or the one config.RECIPE names when `name` is None.

    Raises:
        UserError: there is no such row, or config.py has a wrong one.
    """
    from pyimagesearch import config

    # A text does as well as a Path.
    config.DATASET_DIR, config.OUTPUT_DIR = Path(config.DATASET_DIR), Path(config.OUTPUT_DIR)
    name = config.RECIPE if name is None else name
    if name not in config.RECIPES:
        raise UserError(
            f"there is no recipe {name!r}. pyimagesearch/config.py has: {', '.join(config.RECIPES)}"
        )
    return config.RECIPES[name]


def command(script, recipe, *arguments):
    """Return how a user runs a script for a recipe, as it can be typed."""
    return shlex.join(["python", f"{script}.py", "--recipe", recipe, *map(str, arguments)])


def require(package, wanted_by):
    """Refuse to go on without an optional package.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{wanted_by} needs the package {package}, which is not installed. "
            f"Install it with: pip install -r requirements-extras.txt"
        )


def run(main):
    """Run a script's main function; end the process with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold bytes that are no text; a message about it still has to come out.
        stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except UserError as mistake:
        error(mistake)
        status = MISTAKE
    except BrokenPipeError:
        # Who reads the answers has enough of them, as head has. Python would send the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = PARTLY
    except OSError as failure:
        error(explain(failure))
        status = MISTAKE
    except KeyboardInterrupt as stop:
        print(file=sys.stderr)
        where = f" during {stop}" if str(stop) else ""
        info(f"stopped{where}. To go on from what is finished, run the same command again")
        status = STOPPED
    except Exception as failure:
        # TensorFlow has an exception of its own for a disk without room.
        if os.strerror(errno.ENOSPC) not in str(failure):
            raise
        error(REMEDIES[errno.ENOSPC])
        status = MISTAKE
    sys.exit(status)


def explain(failure):
    """Say an OSError in one line with its remedy."""
    remedy = REMEDIES.get(failure.errno) or str(failure.strerror or failure)
    return f"{failure.filename}: {remedy}" if failure.filename else remedy


def duration(seconds):
    """Say a time as a person would: 0.4 s, 27 s, 2 min 10 s, 3 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def silenced():
    """Send what libraries write to stderr nowhere; an exception comes out all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def load_tensorflow():
    """Import TensorFlow, which takes seconds, without its page about CUDA and oneDNN.

    Part of that page comes before any setting is read, so it has to be caught at the source.
    """
    with silenced():
        import tensorflow as tf

        tf.config.list_physical_devices()
    # It warns that several networks are traced, which several networks need.
    tf.get_logger().setLevel("ERROR")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self.start = time.perf_counter()

    @property
    def seconds(self):
        return time.perf_counter() - self.start

    def __str__(self):
        return duration(self.seconds)


class Waiting:
    """Counts the seconds that loops wait for the next of what they loop over."""

    def __init__(self):
        self.seconds = 0.0
        self.whole = Stopwatch()

    def over(self, things):
        """Yield each of `things`, counting how long it takes to come."""
        things = iter(things)
        while True:
            clock = Stopwatch()
            try:
                thing = next(things)
            except StopIteration:
                return
            finally:
                self.seconds += clock.seconds
            yield thing

    @property
    def share(self):
        """The waiting as a share of the time since this was made."""
        return self.seconds / self.whole.seconds


@contextmanager
def progress(what, total):
    """Give a function to call with the count of things done; a terminal shows a bar.

    Ctrl-C tells how far it came. Where `total` is None nothing is shown or told.
    """
    if total is None:
        yield lambda done=1: None
        return
    counted = 0

    def count(done=1):
        nonlocal counted
        counted += done
        advance(done)

    try:
        with bar(what, total) as advance:
            yield count
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{what} ({counted:,} of {total:,})") from stop


@contextmanager
def bar(what, total):
    """Show a bar, and give the function that advances it.

    Nothing is drawn where stderr is not a terminal: a log file wants milestones only.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Answers go where the user has sent them, not above the bar.
        redirect_stdout=False,
    ) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)
