"""What a user names after --image: photos, folders, patterns, addresses."""

import glob
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from pyimagesearch import images

# Of a download: seconds without a byte, seconds altogether, bytes, redirections.
SILENCE, PATIENCE, LARGEST_DOWNLOAD, REDIRECTIONS = 10, 60, 100_000_000, 5
WEB = ("http://", "https://")
KEPT = "%/:=&?~+!$,;'@()*[]|"  # in an address, besides letters and digits
# What urllib and the layers below it raise; ValueError for an address that is none.
NOT_FETCHED = (
    *(urllib.error.URLError, http.client.HTTPException, ValueError),
    *(TimeoutError, ConnectionError),
)


class Unreadable(ValueError):
    """Something that cannot be had; the message says why and what to do."""


def photos_of(names):
    """Yield the name of each photo that `names` stand for, in their order.

    A folder stands for every photo in it and in the folders below, by name; a pattern that the
    shell did not expand (`*`, `?`, `[`) for the files and folders that fit. What cannot be found
    is yielded as it is: reading it says what is wrong.
    """
    for name in names:
        if is_address(name):
            yield name
        elif os.path.isdir(name):
            found = photos_below(Path(name))
            yield from map(str, found)
            if not found:
                yield name
        elif not os.path.lexists(name) and glob.has_magic(name):
            fitting = sorted(glob.glob(name, recursive=True))
            if "**" in name:  # fits what is in the folders, too
                fitting = [each for each in fitting if not os.path.isdir(each)]
            yield from photos_of(fitting) if fitting else [name]
        else:
            yield name


def photos_below(folder):
    """Return the photos in a folder and below it, by name.

    Links to folders are not followed; hidden folders and those of archivers are left out.
    """
    photos = []
    for parent, folders, _ in os.walk(folder):
        folders[:] = sorted(each for each in folders if images.visible(Path(each)))
        photos += images.photos_in(Path(parent))
    return photos


def read(name, at_least=None):
    """Return a named photo, as images.read_rgb does.

    Raises:
        Unreadable: there is none, or it is no photo; the message is for the user.
    """
    try:
        source = download(name) if is_address(name) else Path(name)
        return images.read_rgb(source, at_least)
    except images.BrokenPhoto as broken:
        raise Unreadable(f"{name} cannot be read as a photo: {broken}. Give another") from broken
    except IsADirectoryError as failure:
        raise Unreadable(f"{name} is a folder without photos. Give another") from failure
    except NOT_FETCHED as failure:
        reason = getattr(failure, "reason", None) or failure
        raise Unreadable(f"{name} cannot be fetched: {reason}. Check the address") from failure
    except OSError as failure:
        raise Unreadable(f"{name}: {failure.strerror}. Check the path after --image") from failure


def is_there(name):
    """Tell whether there may be something to read under a name."""
    return is_address(name) or (os.path.exists(name) and not os.path.isdir(name))


def is_address(name):
    """Tell whether a name is an address in the web."""
    return name.lower().startswith(WEB)


class OnlyTheWeb(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where a user could have sent us: no file://, no ftp://."""

    max_redirections = REDIRECTIONS

    def redirect_request(self, request, answer, code, message, headers, address):
        if not is_address(address):
            raise urllib.error.URLError(f"it leads to {address}, which is not in the web")
        return super().redirect_request(request, answer, code, message, headers, address)


def in_ascii(address):
    """Return an address as it is asked for: letters beyond ASCII are written with others."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (urllib.parse.quote(part, safe=KEPT) for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def download(address):
    """Return the bytes at an address.

    Raises:
        urllib.error.URLError: they cannot be had within the limits above.
    """
    opener = urllib.request.build_opener(OnlyTheWeb)
    deadline = time.monotonic() + PATIENCE
    request = urllib.request.Request(in_ascii(address), headers={"User-Agent": "pyimagesearch"})
    with opener.open(request, timeout=SILENCE) as answer:
        data = bytearray()
        # `read1` gives what has come; a server that drips must not hold us for ever.
        while piece := answer.read1(1 << 16):
            data += piece
            if len(data) > LARGEST_DOWNLOAD:
                raise urllib.error.URLError(f"more than {LARGEST_DOWNLOAD / 1e6:.0f} MB")
            if time.monotonic() > deadline:
                raise urllib.error.URLError(f"not all of it came within {PATIENCE} s")
    return bytes(data)
