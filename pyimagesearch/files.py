"""Files that appear whole or not at all, and digests that tell whether something changed."""

import hashlib
import json
import os
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path):
    """Give a path to write to, which becomes `path` only when the block ends well.

    The name given keeps the end of `path`, since Keras and matplotlib choose a format by it, and
    is short, since `path` itself may already be as long as a file system allows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(path.suffixes[-2:])[-20:]
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial{ending}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path):
    """Delete a file or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON with one item a line."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """Return what a JSON file holds, or None where it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None


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
