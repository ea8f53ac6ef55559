"""Photos that a user names after --image: files, folders, patterns and URLs."""

import glob
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

from pyimagesearch.support import photo_files

# Limits of a download. The first is for connecting and for each wait for more data, the second for
# the whole download.
SOCKET_TIMEOUT_SECONDS = 10
DOWNLOAD_TIMEOUT_SECONDS = 60
MAX_DOWNLOAD_BYTES = 100_000_000

URL_PREFIXES = ("http://", "https://")
URL_WITH_USER = re.compile(r"(https?://)[^/?#]*@", re.IGNORECASE)  # https://user:password@host
# Characters that stay as they are in a URL, besides ASCII letters, digits and "_.-~". "%" is one
# of them: a URL may already be quoted.
URL_CHARACTERS = "%/:=&?~+!$,;'@()*[]|"


class Unreadable(ValueError):
    """A photo that cannot be read. The message names the photo, the reason and the fix."""


def expand(names):
    """Yield the name of each photo that the user's `names` stand for, in their order.

    A folder stands for all photos in it and below it, sorted by name. A pattern with `*`, `?` or
    `[` that the shell did not expand stands for the matching files and folders. A name without a
    match is yielded unchanged, and reading it raises the error.
    """
    for name in names:
        if is_url(name):
            yield name
        elif os.path.isdir(name):
            photos = photos_below(Path(name))
            yield from map(str, photos or [name])
        elif not os.path.lexists(name) and glob.has_magic(name):
            paths = sorted(glob.glob(name, recursive=True))
            if "**" in name:
                # It also matches the files in the folders, so the folders would yield them again.
                paths = [path for path in paths if not os.path.isdir(path)]
            yield from expand(paths) if paths else [name]
        else:
            yield name


def photos_below(folder):
    """Return the photos in a folder and below it, sorted by name.

    Links to folders are not followed. Hidden folders and those of archivers are left out. Other
    files are reported.
    """
    photos, paths = [], []
    for parent, subfolders, names in os.walk(folder):
        # os.walk visits the folders that are left in this list.
        subfolders[:] = sorted(name for name in subfolders if photo_files.is_visible(Path(name)))
        photos += photo_files.photos_in(Path(parent))
        paths += [Path(parent, name) for name in names]
    photo_files.report_others(folder, set(paths) - set(photos))
    return photos


def fetch(name):
    """Return the bytes of a file that a user named by a path or a URL, or raise Unreadable."""
    if user := URL_WITH_USER.match(name):
        # The message must not show the password.
        raise Unreadable(
            f"{user[1]}{name[user.end() :]} is given with a user name, which is not possible. "
            f"Download the photo, and give its path"
        )
    try:
        return download(name) if is_url(name) else Path(name).read_bytes()
    except IsADirectoryError as failure:
        raise Unreadable(
            f"{name} is a folder without photos. Give the path of a photo or of another folder"
        ) from failure
    # The last two come from urllib. ValueError: the URL is not valid.
    except (OSError, http.client.HTTPException, ValueError) as failure:
        # An URLError contains that of the socket, whose text is for example "Connection refused".
        reason = getattr(failure, "reason", None) or failure
        reason = getattr(reason, "strerror", None) or reason
        if is_url(name):
            raise Unreadable(f"{name} cannot be downloaded: {reason}. Check the URL") from failure
        raise Unreadable(f"{name}: {reason}. Check the path after --image") from failure


def exists(name):
    """Return True if `name` is a file or a URL. The URL is not requested."""
    return is_url(name) or (os.path.exists(name) and not os.path.isdir(name))


def is_url(name):
    """Return True if `name` is an http or https URL."""
    return name.lower().startswith(URL_PREFIXES)


class FtpHandler(urllib.request.FTPHandler):
    """Refuses ftp URLs, which urllib would open after a redirect."""

    def ftp_open(self, request):
        url = request.full_url
        raise urllib.error.URLError(f"it redirects to {url}, which is not an http or https URL")


def ascii_url(url):
    """Return a URL in ASCII, as HTTP requires: host names in IDNA, other letters in %XX."""
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(part, safe=URL_CHARACTERS) for part in (parts.path, parts.query))
    return parts._replace(netloc=host, path=path, query=query, fragment="").geturl()


def download(url):
    """Return the bytes at a URL, after redirects. Each limit that is exceeded is an OSError."""
    # urllib uses this handler for ftp instead of its own.
    opener = urllib.request.build_opener(FtpHandler)
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT_SECONDS
    request = urllib.request.Request(ascii_url(url), headers={"User-Agent": "pyimagesearch"})
    with opener.open(request, timeout=SOCKET_TIMEOUT_SECONDS) as response:
        data = bytearray()
        # `read` waits until its buffer is full, however slowly a server sends. `read1` returns the
        # bytes that have arrived, so the deadline is checked.
        while chunk := response.read1(1 << 16):
            data += chunk
            if len(data) > MAX_DOWNLOAD_BYTES:
                raise urllib.error.URLError(f"it is larger than {MAX_DOWNLOAD_BYTES / 1e6:.0f} MB")
            if time.monotonic() > deadline:
                raise urllib.error.URLError(f"it took longer than {DOWNLOAD_TIMEOUT_SECONDS} s")
    return bytes(data)
