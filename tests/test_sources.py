import http.server
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo

from pyimagesearch import images
from pyimagesearch.support import sources


def make_photos(*names):
    for number, name in enumerate(names):
        make_photo(Path(name), 0, number)


# What a name stands for


def test_expand_keeps_the_users_order():
    make_photos("b.jpg", "a.jpg")
    names = ["b.jpg", "http://example.org/x.jpg", "a.jpg", "missing.jpg"]
    assert list(sources.expand(names)) == names


def test_expand_replaces_a_folder_by_the_photos_in_it_and_below_by_name():
    make_photos("in/b.jpg", "in/a.jpg", "in/deep/c.png", "in/.hidden.jpg")
    Path("in/notes.txt").write_text("not a photo")
    assert list(sources.expand(["in"])) == ["in/a.jpg", "in/b.jpg", "in/deep/c.png"]


def test_expand_counts_the_files_of_a_folder_that_are_not_photos(capsys):
    make_photos("in/a.jpg", "in/deep/b.jpg")
    for name in ("in/a.nef", "in/deep/b.nef", "in/deep/.hidden"):
        Path(name).write_text("not a photo")
    assert list(sources.expand(["in"])) == ["in/a.jpg", "in/deep/b.jpg"]
    assert "files in in that are not photos: 2 (2 .nef)" in capsys.readouterr().err


def test_expand_leaves_hidden_folders_out_unless_they_are_named():
    make_photos(
        "in/a.jpg", "in/.thumbnails/a.jpg", "in/b/.ipynb_checkpoints/b.jpg", "in/__MACOSX/a.jpg"
    )
    assert list(sources.expand(["in"])) == ["in/a.jpg"]
    assert list(sources.expand(["in/.thumbnails"])) == ["in/.thumbnails/a.jpg"]


def test_expand_does_not_follow_a_link_to_a_folder():
    make_photos("in/a.jpg")
    os.symlink("..", "in/loop")
    assert list(sources.expand(["in"])) == ["in/a.jpg"]


def test_expand_keeps_a_folder_without_photos():
    os.mkdir("in")
    assert list(sources.expand(["in"])) == ["in"]


def test_expand_replaces_a_pattern_by_the_matching_files_unless_a_file_has_that_name():
    make_photos("in/a.jpg", "in/b.jpg", "in/c.png", "in/[x].jpg", "in/x.jpg")
    assert list(sources.expand(["in/?.jpg"])) == ["in/a.jpg", "in/b.jpg", "in/x.jpg"]
    assert list(sources.expand(["in/[x].jpg"])) == ["in/[x].jpg"]
    assert list(sources.expand(["in/*.gif"])) == ["in/*.gif"]


@pytest.mark.parametrize("pattern", ["in/*", "in/**"])
def test_expand_yields_each_photo_once_when_a_pattern_matches_folders(pattern):
    make_photos("in/a.jpg", "in/x/b.jpg", "in/x/y/c.jpg")
    assert list(sources.expand([pattern])) == ["in/a.jpg", "in/x/b.jpg", "in/x/y/c.jpg"]


def test_exists_is_true_for_pipes_and_urls_and_false_for_folders():
    os.mkfifo("pipe")
    assert sources.exists("pipe")
    assert sources.exists("HTTPS://example.org/x.jpg")
    os.mkdir("a folder")
    assert not sources.exists("a folder")
    assert not sources.exists("missing")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.jpg", "No such file or directory. Check the path after --image"),
        ("empty.jpg", "the file is empty"),
        ("a_folder", "a folder without photos"),
        ("text.jpg", "not a picture"),
    ],
)
def test_reading_a_bad_file_raises_an_error_with_the_reason(name, reason):
    Path("empty.jpg").touch()
    Path("a_folder").mkdir()
    Path("text.jpg").write_text("not a photo")
    with pytest.raises(sources.Unreadable, match=f"^{name}.*{reason}"):
        images.read_photo(name)


# Downloads


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a photo, and servers that misbehave."""

    def do_GET(self):
        self.server.requested.append(self.path)
        if self.path == "/photo.png":
            self.send(200, self.server.photo)
        elif self.path == "/page.html":
            self.send(200, b"<html>")
        elif self.path == "/large":
            self.send(200, b"x" * 4000)
        elif self.path.startswith("/redirect/"):
            self.redirect(self.path.removeprefix("/redirect/"))
        elif self.path == "/loop":
            self.redirect("/loop")
        elif self.path == "/silent":
            time.sleep(2)
        elif self.path == "/slow":
            self.send_slowly()
        else:
            self.send(404, b"")

    def send(self, status, data):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def redirect(self, url):
        self.send_response(302)
        self.send_header("Location", url)
        self.end_headers()

    def send_slowly(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(20):
            time.sleep(0.1)
            self.wfile.write(b"x")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """Return the URL of a server on this machine, and the list of the paths requested from it."""
    make_photos("served.png")
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http_server.photo = Path("served.png").read_bytes()
    http_server.requested = []
    threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_port}", http_server.requested
    http_server.shutdown()
    http_server.server_close()


def test_photo_at_a_url_is_read_like_the_same_photo_on_the_disk(server):
    url, requested = server
    photo = images.read_photo("served.png")
    np.testing.assert_array_equal(images.read_photo(f"{url}/photo.png"), photo)
    assert requested == ["/photo.png"]
    np.testing.assert_array_equal(images.read_photo(f"{url}/redirect/{url}/photo.png"), photo)


def test_url_may_contain_letters_beyond_ascii(server):
    url, requested = server
    for name in ("Crème brûlée.jpg?größe=1&x=a+b", "Cr%C3%A8me.jpg"):
        with pytest.raises(sources.Unreadable, match="Not Found"):
            images.read_photo(f"{url}/{name}")
    assert requested == [
        "/Cr%C3%A8me%20br%C3%BBl%C3%A9e.jpg?gr%C3%B6%C3%9Fe=1&x=a+b",
        "/Cr%C3%A8me.jpg",
    ]


def test_ascii_url_encodes_the_host_and_leaves_a_url_in_ascii_unchanged():
    assert sources.ascii_url("https://bücher.example/a") == "https://xn--bcher-kva.example/a"
    url = "https://user@example.org:8000/a,b;c/(d)!?e=[f]&g='h'"
    assert sources.ascii_url(url) == url


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "cannot be downloaded: Not Found. Check the URL"),
        ("/page.html", "not a picture"),
        ("/redirect/file:///etc/passwd", "not allowed"),
        ("/redirect/ftp://127.0.0.1/x.jpg", "not an http or https URL"),
        ("/loop", "cannot be downloaded"),
        ("/silent", "timed out"),
        ("/slow", "took longer than 0.5 s"),
        ("/large", "larger than 0 MB"),
    ],
)
def test_failed_download_raises_an_error_with_the_reason_in_time(server, monkeypatch, path, reason):
    monkeypatch.setattr(sources, "SOCKET_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(sources, "DOWNLOAD_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(sources, "MAX_DOWNLOAD_BYTES", 2000)
    start = time.monotonic()
    with pytest.raises(sources.Unreadable, match=reason):
        images.read_photo(server[0] + path)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://", "no host given"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://127.0.0.1:1/x.jpg", "Connection refused"),
        ("https://x y/", "URL can't contain control characters"),
    ],
)
def test_wrong_url_raises_an_error_with_the_reason(url, reason):
    with pytest.raises(sources.Unreadable, match=rf"cannot be downloaded: {reason}.*Check the URL"):
        images.read_photo(url)


def test_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(sources.Unreadable) as refused:
        sources.fetch("https://me:secret@photos.example/a.jpg")
    message = str(refused.value)
    assert message.startswith("https://photos.example/a.jpg is given with a user name")
    assert "secret" not in message
