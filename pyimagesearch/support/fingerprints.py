"""What a result was made from: stored beside it, and compared before the result is used again.

A fingerprint is a dict of named parts, as JSON can hold it. A part is a setting, or a digest of
something large, such as the photos of a split.
"""

import hashlib
import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

from pyimagesearch.support import files

# The packages that the bits of a result depend on.
PACKAGES = ("tensorflow", "keras", "scikit-learn", "numpy", "opencv-python", "pillow")
# Changes when a fingerprint gets other parts: results of an earlier version are made again.
FORMAT = 2
DIGEST = re.compile("[0-9a-f]{16}")


def fingerprint(parts):
    """Return the fingerprint of these {name: part}, in the types in which JSON returns it."""
    return json.loads(json.dumps({"format": FORMAT, **parts}))


def digest(*parts):
    """Return 16 hexadecimal digits that stand for these values: the start of their SHA-256."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_digest(path):
    """Return a digest that changes when a file changes, or None if there is no such file."""
    return digest(files.file_stamp(path)) if Path(path).is_file() else None


def versions():
    """Return {package: version} of the packages that results depend on, and of Python."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def differences(stored, wanted):
    """Return one phrase for each difference: "SEED was 42 and is now 43".

    Args:
        stored: the fingerprint of a result, or None if it has none.
        wanted: the fingerprint of the result that is wanted now. Only its parts count.

    Returns:
        A list of str, empty if the result can be used.
    """
    if stored is None or stored.get("format") != wanted["format"]:
        return ["it was made by another version of this project"]
    return compare("", stored, wanted)


def compare(name, before, now):
    """Return the phrases for one part, the inner parts of dicts and lists one by one."""
    if before == now:
        return []
    if isinstance(now, dict) and isinstance(before, dict):
        dot = f"{name}." if name else ""
        inner = [compare(f"{dot}{key}", before.get(key), now[key]) for key in now]
        return [phrase for phrases in inner for phrase in phrases]
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        pairs = enumerate(zip(before, now, strict=True))
        inner = [compare(f"{name}[{position}]", *pair) for position, pair in pairs]
        return [phrase for phrases in inner for phrase in phrases]
    if any(isinstance(value, str) and DIGEST.fullmatch(value) for value in (before, now)):
        return [f"{name} changed"]
    return [f"{name} was {before!r} and is now {now!r}"]
