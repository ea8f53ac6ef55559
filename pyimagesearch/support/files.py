"""Files that are written completely or not at all, and folders that one run locks for itself."""

import errno
import json
import os
import re
import shutil
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import portalocker

from pyimagesearch.support.errors import UserError

LOCK = ".lock"  # a file in each folder that a run has locked
# A file that atomic_write has not finished. The group is the number of the process that writes it.
PARTIAL = re.compile(r"\.[0-9a-f]{12}\.(\d+)\.partial.*")
# On Windows, nobody can replace a file that is open elsewhere. Virus scanners open each new file
# for a moment, so it is tried again after these pauses.
PAUSES_SECONDS = (0.1, 0.5, 2)


@contextmanager
def atomic_write(path):
    """Give a temporary path to write to, and rename it to `path` when the block ends.

    If the block raises an exception, `path` stays as it was. The temporary file is deleted by
    delete_leftovers if the process is killed.
    """
    path = Path(path)
    # Keras and matplotlib choose a format by the suffix. The rest of the name is left out: `path`
    # may already be as long as the file system allows.
    with temporary_path(path.parent, "".join(path.suffixes[-2:])[-20:]) as partial:
        yield partial
        if path.is_dir():
            # os.replace cannot replace a folder that contains files.
            remove(path)
        replace(partial, path)


@contextmanager
def temporary_path(folder, suffix):
    """Give a path in a folder for a file or folder that is deleted when the block ends.

    It is deleted by delete_leftovers if the process is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid.uuid4().hex[:12]}.{os.getpid()}.partial{suffix}"
    try:
        yield path
    finally:
        remove(path)


def replace(source, target):
    """Rename a file or folder to `target`. A file there is replaced, and so is an empty folder.

    Raises UserError if another program has opened the target, which matters on Windows only.
    """
    is_windows = sys.platform == "win32"
    for pause in (*PAUSES_SECONDS, None) if is_windows else (None,):
        try:
            return os.replace(source, target)
        except PermissionError as failure:
            if not is_windows:
                raise
            if pause is None:
                raise UserError(
                    f"{target} cannot be replaced ({failure.strerror}). If another program has "
                    f"opened it, close it there and run the same command again"
                ) from failure
            time.sleep(pause)


@contextmanager
def locked(folder, shared=False):
    """Lock a folder while the block runs, so that no other run changes it.

    The operating system removes the lock when the process ends, even if it is killed. An exclusive
    lock also makes the folder, and deletes the unfinished files of killed processes. Several runs
    may have a `shared` lock at a time: they only read the folder. Raises UserError if another run
    has locked the folder.
    """
    folder = Path(folder)
    path = folder / LOCK
    if not shared:
        folder.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        # No run of this project has written the folder, so there is nothing to wait for.
        yield
        return
    with open_lock(path, shared) as file:
        kind = portalocker.LOCK_SH if shared else portalocker.LOCK_EX
        try:
            portalocker.lock(file, kind | portalocker.LOCK_NB)
        except portalocker.AlreadyLocked as failure:
            raise UserError(
                f"another run is using {folder}. Wait until it has finished, or stop it"
            ) from failure
        except portalocker.LockException as failure:
            # Some network file systems do not support locks.
            reason = getattr(failure.__cause__, "errno", None)
            if reason not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise (failure.__cause__ or failure) from None
        if not shared:
            delete_leftovers(folder)
        yield


def open_lock(path, shared):
    """Open a lock file as NFS requires: for reading if the lock is shared, otherwise for writing.

    A local disk allows both locks on a file that this user may only read.
    """
    try:
        return open(path, "r" if shared else "a")
    except PermissionError:
        if not path.is_file():
            raise
        return open(path)


def partial_path(path):
    """Return where an unfinished file is stored so that a later run can resume it."""
    return path.with_suffix(".partial")


def delete_leftovers(folder):
    """Delete the unfinished files of ended processes, in a folder and below it."""
    for path in list(Path(folder).rglob(".*.partial*")):
        match = PARTIAL.fullmatch(path.name)
        try:
            if match and not is_running(int(match[1])):
                remove(path)
        except PermissionError:
            pass  # On Windows: a running process has opened the file.


def is_running(process):
    """Return True if a process with this number is running; on Windows only if it is this one."""
    if sys.platform == "win32":
        # Here, os.kill would end the process. A file that it has opened cannot be deleted anyway.
        return process == os.getpid()
    try:
        # Signal 0 only checks if the process exists; it does not end it.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # The process belongs to another user.
    return True


def remove(path):
    """Delete a file or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON with one item per line."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path, kind=dict):
    """Return the value in a JSON file, or None if it is missing, damaged or not a `kind`."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return value if isinstance(value, kind) else None


def write_text(path, text):
    """Write `text` as UTF-8."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def printable(text):
    """Return `text` with each invalid Unicode character, as file names may have, as "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def first_sentence(failure):
    """Return the first sentence of an exception's message, on one line, without its full stop."""
    message = " ".join(str(failure).split()) or type(failure).__name__
    return message.split(". ")[0].rstrip(".")


def file_stamp(path):
    """Return (bytes, modification time in nanoseconds): one changes when the file changes."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
