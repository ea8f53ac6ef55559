"""Files that appear whole or not at all, folders held by one run, and digests that tell changes."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path

from pyimagesearch.console import UserError

LOCK = ".lock"  # in a folder that a run holds
PARTIAL = re.compile(r"\.[0-9a-f]{12}\.(\d+)\.partial.*")  # with the number of its process


@contextmanager
def whole(path):
    """Give a path to write to, which becomes `path` only when the block ends well.

    The name given keeps the end of `path`, since Keras and matplotlib choose a format by it, and
    is short, since `path` itself may already be as long as a file system allows. What a killed
    process left under such a name is for `sweep`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(path.suffixes[-2:])[-20:]
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.{os.getpid()}.partial{ending}")
    try:
        yield partial
        if path.is_dir():
            # A folder does not give way to another.
            remove(path)
        os.replace(partial, path)
    finally:
        remove(partial)


def require_room(path, needed):
    """Refuse to begin a file that its disk has no room for.

    For writers that do not survive a disk that fills under them, as HDF5.

    Raises:
        OSError: fewer than `needed` bytes are free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def held(folder, shared=False):
    """Hold a folder while the block runs: for this process alone, or with others that only read.

    The operating system lets go of it when the process ends, however it ends. What killed ones
    left half-written is swept away.

    Raises:
        UserError: another run holds it.
    """
    folder = Path(folder)
    path = folder / LOCK
    if not shared:
        folder.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        # Nobody has written here since there are locks.
        yield
        return
    with open_lock(path, shared) as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            raise UserError(
                f"another run is at work on {folder}. Wait until it has ended, or end it"
            ) from failure
        except OSError as failure:
            # Some network file systems have no locks.
            if failure.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        if not shared:
            sweep(folder)
        yield


def open_lock(path, shared):
    """Open a lock: for writing, as NFS wants it of whoever will be alone, or if need be to read.

    Whoever may read a dataset of someone else's may not write its lock.
    """
    if not shared:
        try:
            return open(path, "a")
        except PermissionError:
            if not path.is_file():
                raise
    return open(path)


def partial_of(path):
    """Return where a file that is gone on with grows until it is whole."""
    return path.with_suffix(".partial")


def sweep(folder):
    """Delete what processes that are no more left half-written below a folder."""
    for path in list(Path(folder).rglob(".*.partial*")):
        match = PARTIAL.fullmatch(path.name)
        if match and not is_running(int(match[1])):
            remove(path)


def is_running(process):
    """Tell whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove(path):
    """Delete a file or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON with one item a line."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path, kind=dict):
    """Return what a JSON file holds, or None where it is missing or holds nothing of that kind."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return value if isinstance(value, kind) else None


def write_text(path, text):
    """Write `text` as UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def digest(*parts):
    """Return 16 hexadecimal digits that stand for these values: the start of their SHA-256."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def printable(text):
    """Return a text with what is no Unicode in it, as in a file's name, made visible as "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def first_sentence(failure):
    """Return the first sentence of what an exception says, on one line."""
    words = " ".join(str(failure).split()) or type(failure).__name__
    return words.split(". ")[0].rstrip(".")


def file_stamp(path):
    """Return what changes when a file changes: its size in bytes and its time in nanoseconds."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
