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
FORMAT = 4
DIGEST = re.compile("[0-9a-f]{16}")
MAX_WORDS = 200  # characters of a difference; the names of many classes have more


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
    """Return a phrase for each difference of two fingerprints: "SEED was 42 and is now 43".

    `stored` is None if a result has no fingerprint. Only the parts of `wanted` count.
    """
    if stored is None or stored.get("format") != wanted["format"]:
        return ["it was made by another version of this project"]
    return list(compare("", stored, wanted))


def compare(name, before, now):
    """Yield the phrases for one part, the inner parts of dicts and lists one by one."""
    if isinstance(now, dict) and isinstance(before, dict):
        for key in now:
            yield from compare(f"{name}.{key}" if name else key, before.get(key), now[key])
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for position, pair in enumerate(zip(before, now, strict=True)):
            yield from compare(f"{name}[{position}]", *pair)
    elif any(isinstance(value, str) and DIGEST.fullmatch(value) for value in (before, now)):
        if before != now:
            yield f"{name} changed"
    elif before != now:
        words = f"was {before!r} and is now {now!r}"
        yield f"{name} {words if len(words) <= MAX_WORDS else 'changed'}"
