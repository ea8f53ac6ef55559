"""A server on this machine that plays the hosts of downloads, and misbehaves as they may."""

import http.server
import time


class Host(http.server.ThreadingHTTPServer):
    """Serves the bytes in `files`, by path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = {}
        self.requests = []  # (path, Range header or None)
        self.cuts = []  # after how many bytes the next answers break off
        self.statuses = {}  # {path: HTTP status} other than 200
        self.redirects = {}  # {path: URL}
        self.headers = {"Content-Type": "application/octet-stream", "ETag": '"1"'}
        self.has_ranges = True
        self.wrong_parts = 0  # how many of the next answers have another part than wanted
        self.silence_seconds = 0  # before each answer

    def handle_error(self, *_):
        """Say nothing: a client that gives up is part of many tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self):
        host, wanted = self.server, self.headers.get("Range")
        host.requests.append((self.path, wanted))
        time.sleep(host.silence_seconds)
        if self.path in host.redirects:
            self.answer(302, {"Location": host.redirects[self.path]}, b"")
        elif self.path in host.statuses:
            self.answer(host.statuses[self.path], {}, b"an error")
        elif self.path not in host.files:
            self.answer(404, {}, b"")
        else:
            self.send_file(host.files[self.path], wanted)

    def send_file(self, data, wanted):
        host, status, headers = self.server, 200, dict(self.server.headers)
        version = headers.get("ETag", headers.get("Last-Modified"))
        if wanted and host.has_ranges and self.headers.get("If-Range") == version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if host.wrong_parts:
                host.wrong_parts, start = host.wrong_parts - 1, start // 2
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status = 206 if start < len(data) else 416
            data = data[start:]
        self.answer(status, headers, data)

    def answer(self, status, headers, data):
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(data[:cut])

    def log_message(self, *_):
        pass
