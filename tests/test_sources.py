import http.server
import os
import threading
import time

import numpy as np
import pytest
from conftest import make_photo

from pyimagesearch import sources


def made(*names):
    for number, name in enumerate(names):
        make_photo(sources.Path(name), 0, number)


def test_a_folder_stands_for_the_photos_in_it_and_below_by_name():
    made("in/b.jpg", "in/a.jpg", "in/deep/c.png", "in/.hidden.jpg")
    sources.Path("in/notes.txt").write_text("no photo")
    assert list(sources.photos_of(["in"])) == ["in/a.jpg", "in/b.jpg", "in/deep/c.png"]


def test_hidden_folders_are_left_out_unless_they_are_named():
    made("in/a.jpg", "in/.thumbnails/a.jpg", "in/b/.ipynb_checkpoints/b.jpg", "in/__MACOSX/a.jpg")
    assert list(sources.photos_of(["in"])) == ["in/a.jpg"]
    assert list(sources.photos_of(["in/.thumbnails"])) == ["in/.thumbnails/a.jpg"]


def test_an_address_may_have_letters_beyond_ascii(server):
    address, asked = server
    for name in ("Crème brûlée.jpg?größe=1&x=a+b", "Cr%C3%A8me.jpg"):
        with pytest.raises(sources.Unreadable, match="Not Found"):
            sources.read(f"{address}/{name}")
    assert asked == [
        "/Cr%C3%A8me%20br%C3%BBl%C3%A9e.jpg?gr%C3%B6%C3%9Fe=1&x=a+b",
        "/Cr%C3%A8me.jpg",
    ]
    assert sources.in_ascii("https://bücher.example/a") == "https://xn--bcher-kva.example/a"
    plain = "https://user@example.org:8000/a,b;c/(d)!?e=[f]&g='h'"
    assert sources.in_ascii(plain) == plain


def test_a_link_back_to_its_folder_is_not_followed():
    made("in/a.jpg")
    os.symlink("..", "in/loop")
    assert list(sources.photos_of(["in"])) == ["in/a.jpg"]


def test_a_pattern_stands_for_the_files_that_fit_unless_a_file_has_that_name():
    made("in/a.jpg", "in/b.jpg", "in/c.png", "in/[x].jpg", "in/x.jpg")
    assert list(sources.photos_of(["in/?.jpg"])) == ["in/a.jpg", "in/b.jpg", "in/x.jpg"]
    assert list(sources.photos_of(["in/[x].jpg"])) == ["in/[x].jpg"]
    assert list(sources.photos_of(["in/*.gif"])) == ["in/*.gif"]


@pytest.mark.parametrize("pattern", ["in/*", "in/**"])
def test_a_pattern_that_folders_fit_stands_for_the_photos_in_them(pattern):
    made("in/a.jpg", "in/x/b.jpg", "in/x/y/c.jpg")
    assert list(sources.photos_of([pattern])) == ["in/a.jpg", "in/x/b.jpg", "in/x/y/c.jpg"]


def test_a_pipe_is_there_to_be_read():
    os.mkfifo("pipe")
    assert sources.is_there("pipe")
    os.mkdir("a folder")
    assert not sources.is_there("a folder")
    assert not sources.is_there("nothing")


def test_order_is_the_users():
    made("b.jpg", "a.jpg")
    names = ["b.jpg", "http://example.org/x.jpg", "a.jpg", "nowhere.jpg"]
    assert list(sources.photos_of(names)) == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.jpg", "No such file"),
        ("empty.jpg", "the file is empty"),
        ("a_folder", "a folder without photos"),
        ("text.jpg", "not a picture"),
    ],
)
def test_what_cannot_be_read_says_why(name, words):
    sources.Path("empty.jpg").touch()
    sources.Path("a_folder").mkdir()
    sources.Path("text.jpg").write_text("no picture")
    with pytest.raises(sources.Unreadable, match=words):
        sources.read(name)


@pytest.fixture
def server():
    """Return the address of a server on this machine and the paths that it was asked for."""
    make_photo(sources.Path("served.png"), 0, 1)
    photo = sources.Path("served.png").read_bytes()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answers = {
                "/photo.png": (200, photo),
                "/page.html": (200, b"<html>"),
                "/big": (200, b"x" * 4000),
            }
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/to/"))
                self.end_headers()
            elif self.path == "/again":
                self.send_response(302)
                self.send_header("Location", "/again")
                self.end_headers()
            elif self.path == "/hangs":
                time.sleep(2)
            elif self.path == "/drips":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(20):
                    time.sleep(0.1)
                    self.wfile.write(b"x")
            else:
                status, data = answers.get(self.path, (404, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def test_a_photo_in_the_web_is_read_as_one_on_the_disk(server):
    address, _ = server
    np.testing.assert_array_equal(sources.read(f"{address}/photo.png"), sources.read("served.png"))
    np.testing.assert_array_equal(
        sources.read(f"{address}/to/{address}/photo.png"), sources.read("served.png")
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nothing", "Not Found"),
        ("/page.html", "not a picture"),
        ("/to/file:///etc/passwd", "not allowed"),
        ("/to/ftp://127.0.0.1/x.jpg", "not in the web"),
        ("/again", "cannot be fetched"),
        ("/hangs", "timed out"),
        ("/drips", "within"),
        ("/big", "more than"),
    ],
)
def test_a_bad_address_says_why_and_nothing_hangs(server, monkeypatch, path, words):
    monkeypatch.setattr(sources, "SILENCE", 0.5)
    monkeypatch.setattr(sources, "PATIENCE", 0.5)
    monkeypatch.setattr(sources, "LARGEST_DOWNLOAD", 2000)
    began = time.monotonic()
    with pytest.raises(sources.Unreadable, match=words):
        sources.read(server[0] + path)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "address", ["http://", "http://[", "http://127.0.0.1:1/x.jpg", "https://x y/"]
)
def test_an_address_that_is_none_says_so(address):
    with pytest.raises(sources.Unreadable, match="cannot be"):
        sources.read(address)


def test_nothing_is_fetched_that_was_not_asked_for(server):
    address, asked = server
    sources.read(f"{address}/photo.png")
    assert asked == ["/photo.png"]
