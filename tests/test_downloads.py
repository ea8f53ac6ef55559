"""Downloads resume after a broken connection, are checked, and are refused with a remedy."""

import hashlib
import re
from pathlib import Path

import made_host
import pytest
from conftest import user_error

from pyimagesearch.support import downloads, files
from pyimagesearch.support.errors import UserError

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", (0, 0))


@pytest.fixture
def archive_host(host):
    """Return the host, with DATA at /photos.zip."""
    host.files["/photos.zip"] = DATA
    return host


def fetch(host, path="/photos.zip", **options):
    """Download a path of a host to the file `archive`. Return its bytes."""
    downloads.fetch(host.url + path, Path("archive"), **options)
    return Path("archive").read_bytes()


# Resuming


def test_broken_connection_is_resumed_at_the_byte_where_it_broke(archive_host):
    archive_host.cuts = [1000, 500]
    assert fetch(archive_host) == DATA
    ranges = [wanted for _, wanted in archive_host.requests]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_next_run_resumes_what_an_earlier_run_left(archive_host):
    archive_host.cuts = [1000, 10, 10]
    message = user_error(fetch, archive_host, remedy="Or ask a friend")
    assert "the connection broke. Run the same command again to resume. Or ask" in message
    assert fetch(archive_host) == DATA
    assert archive_host.requests[-1] == ("/photos.zip", "bytes=1020-")


def test_file_that_has_changed_on_the_server_is_downloaded_from_its_start(archive_host):
    archive_host.cuts = [1000, 0, 0]
    user_error(fetch, archive_host)
    archive_host.headers["ETag"] = '"2"'
    archive_host.files["/photos.zip"] = DATA[::-1]
    assert fetch(archive_host) == DATA[::-1]


def test_other_part_of_a_file_than_wanted_is_not_appended(archive_host):
    archive_host.cuts, archive_host.wrong_parts = [1000], 1
    assert fetch(archive_host) == DATA
    assert archive_host.requests[-1] == ("/photos.zip", None)


def test_another_address_does_not_resume_the_file_of_the_first(archive_host):
    archive_host.cuts = [1000, 0, 0]
    user_error(fetch, archive_host)
    archive_host.files["/other.zip"] = DATA[::-1]
    assert fetch(archive_host, "/other.zip") == DATA[::-1]


@pytest.mark.parametrize(
    ("has_ranges", "headers"),
    [(False, {"ETag": '"1"'}), (True, {}), (True, {"ETag": 'W/"1"'})],
    ids=["no ranges", "no version", "weak version"],
)
def test_server_that_cannot_resume_sends_the_whole_file_again(archive_host, has_ranges, headers):
    archive_host.has_ranges, archive_host.headers = has_ranges, headers
    archive_host.cuts = [1000]
    assert fetch(archive_host) == DATA


def test_date_of_a_file_is_its_version_if_it_has_no_other(archive_host):
    archive_host.headers = {"Last-Modified": "Mon, 03 Jun 2019 10:00:00 GMT"}
    archive_host.cuts = [1000]
    assert fetch(archive_host) == DATA
    assert archive_host.requests[-1] == ("/photos.zip", "bytes=1000-")


def test_downloaded_file_is_not_downloaded_again(archive_host):
    fetch(archive_host)
    assert fetch(archive_host, size=len(DATA)) == DATA
    assert len(archive_host.requests) == 1


# Other files than expected


def test_file_of_another_size_is_refused_before_it_is_downloaded(archive_host):
    message = user_error(fetch, archive_host, size=5)
    assert "it has 10,240 bytes instead of 5" in message
    assert not list(Path().glob("archive*"))


@pytest.mark.parametrize("algorithm", ["sha256", "git"])
def test_file_with_another_checksum_is_deleted_and_both_are_shown(archive_host, algorithm):
    content = DATA if algorithm == "sha256" else b"blob 10240\0" + DATA
    found = hashlib.new({"git": "sha1"}.get(algorithm, algorithm), content).hexdigest()
    assert fetch(archive_host, checksum=f"{algorithm}:{found}") == DATA
    message = user_error(fetch, archive_host, checksum=f"{algorithm}:abc")
    assert f"it has {algorithm} {found} instead of abc" in message
    assert not Path("archive").exists()


def test_git_checksum_is_the_name_that_git_gives_a_file(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    name = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object hello
    assert downloads.digest_of(tmp_path / "hello", "git") == name


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_web_page_instead_of_a_file_is_user_error(archive_host, content_type):
    """Hosts send such a page with status 200 if a login or a click is missing."""
    archive_host.headers["Content-Type"] = content_type
    archive_host.files["/photos.zip"] = b"\n<!DOCTYPE html><html>Sign in</html>"
    assert "a web page" in user_error(fetch, archive_host)
    assert not Path("archive").exists()


# Servers that refuse


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "it needs an account (401 Unauthorized). Or ask a friend"),
        (403, "the server refuses access (403 Forbidden). Or ask a friend"),
        (404, "there is no such file any more (404 Not Found). Or ask a friend"),
        (429, "try again in an hour (429 Too Many Requests). Or ask a friend"),
        (503, "the server has a problem (503 Service Unavailable). Run the same command again"),
    ],
)
def test_refusal_of_the_server_is_one_line_with_the_remedy(archive_host, status, words):
    archive_host.statuses["/photos.zip"] = status
    message = user_error(fetch, archive_host, remedy="Or ask a friend")
    assert message.startswith(f"{archive_host.url}/photos.zip cannot be downloaded: ")
    assert words in message
    assert len(archive_host.requests) == (3 if status == 503 else 1)


def test_redirects_are_followed_but_not_to_other_protocols(archive_host):
    archive_host.redirects = {"/api": f"{archive_host.url}/photos.zip", "/loop": "/loop"}
    archive_host.redirects["/ftp"] = "ftp://127.0.0.1/photos.zip"
    assert fetch(archive_host, "/api") == DATA
    Path("archive").unlink()
    assert "30 redirects" in user_error(fetch, archive_host, "/loop")
    assert "ftp://127.0.0.1/photos.zip" in user_error(fetch, archive_host, "/ftp")


def test_missing_connection_is_one_line_with_the_systems_reason():
    message = user_error(downloads.fetch, "http://127.0.0.1:9/photos.zip", Path("archive"))
    assert "there is no connection (Connection refused). Check it" in message


def test_server_that_hangs_up_without_an_answer_is_tried_again(archive_host, monkeypatch):
    answer = made_host.Handler.do_GET
    refusals = [lambda handler: None, answer]
    monkeypatch.setattr(made_host.Handler, "do_GET", lambda handler: refusals.pop(0)(handler))
    assert fetch(archive_host) == DATA


def test_silent_server_is_given_up(archive_host, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.05)
    archive_host.silence_seconds = 0.1
    assert "the connection broke" in user_error(fetch, archive_host)


def test_page_of_a_kaggle_data_set_stands_for_its_download():
    page = "https://www.kaggle.com/datasets/trolukovich/food11-image-dataset"
    api = "https://www.kaggle.com/api/v1/datasets/download/trolukovich/food11-image-dataset"
    assert downloads.url_of(page) == downloads.url_of(f"{page}/data?select=a") == api
    assert downloads.url_of("https://example.org/a.zip") == "https://example.org/a.zip"


@pytest.mark.parametrize("page", ["competitions/dogs-vs-cats/data", "c/dogs-vs-cats"])
def test_kaggle_competition_is_refused_with_what_to_click(page):
    message = user_error(downloads.fetch, f"https://www.kaggle.com/{page}", Path("archive"))
    competition = "https://www.kaggle.com/competitions/dogs-vs-cats"
    assert f"Sign in, accept the rules at {competition}/rules, and click" in message
    assert f'"Download All" at {competition}/data' in message


# The disk


def test_download_that_does_not_fit_on_the_disk_is_refused_before_it_begins(
    archive_host, free_bytes
):
    free_bytes(len(DATA) - 1)
    assert re.search(r"MB left.*Free some space", user_error(fetch, archive_host))
    assert not list(Path().glob("archive*"))


def test_workplace_is_deleted_after_success_and_kept_for_resuming():
    target = Path("Food-11")
    with downloads.workplace(target) as folder:
        (folder / "archive").touch()
    assert not list(Path().iterdir())
    with pytest.raises(ZeroDivisionError), downloads.workplace(target):
        1 / 0  # noqa: B018
    assert not list(Path().iterdir())
    with pytest.raises(FileExistsError), downloads.workplace(target) as folder:
        # The second mkdir fails.
        [Path(folder, "unfinished").mkdir() for _ in range(2)]
    assert Path("Food-11.download/unfinished").exists()


def test_only_one_run_at_a_time_uses_a_workplace():
    with downloads.workplace(Path("Food-11")):
        words = r"another run is using Food-11\.download"
        with pytest.raises(UserError, match=words), downloads.workplace(Path("Food-11")):
            pass
        assert Path("Food-11.download", files.LOCK).exists()
