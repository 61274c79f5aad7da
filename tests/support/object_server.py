"""A small server of files by http with ranges, which also answers as an S3 of path-style addresses.

It runs in a process of its own: GDAL holds the interpreter while it waits for an answer. What lies in a
folder ``private`` is refused with 403, as by a bucket without permission; there are no listings.

    python object_server.py FOLDER LOG
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WORDS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    416: ("InvalidRange", "The requested range is not satisfiable"),
}
"""How S3 words a refusal; GDAL reads it from the answer's body."""
SIGNATURE = "sig=5ec4e7%2Babc%3D"
"""The one query that is granted."""
RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class Objects(BaseHTTPRequestHandler):
    """Answers GET and HEAD of files below the server's folder."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *_):
        """Say nothing on standard error."""

    def _answer(self, with_body):
        name, _, query = self.path.lstrip("/").partition("?")
        path = self.server.folder / name
        if "private" in path.parts or query not in ("", SIGNATURE) or name.endswith("/"):
            self._refuse(403, with_body)
        elif not path.is_file():
            self._refuse(404, with_body)
        else:
            self._send(path.read_bytes(), with_body)

    def _refuse(self, status, with_body):
        code, words = WORDS[status]
        body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
        self._end(status, len(body))
        if with_body:
            self.wfile.write(body)

    def _send(self, content, with_body):
        asked = RANGE.match(self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]) if asked and asked[2] else len(content) - 1, len(content) - 1)
        if first >= len(content):
            self._refuse(416, with_body)
            return
        part = content[first : last + 1]
        extra = {"Accept-Ranges": "bytes"}
        if asked:
            extra["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._end(206 if asked else 200, len(part), **extra)
        if with_body:
            self.wfile.write(part)

    def _end(self, status, length, **headers):
        with self.server.log.open("a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {status} {length}\n")
        self.send_response(status)
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """Serve a folder while the block runs; give ``host:port``."""
    command = [sys.executable, __file__, str(folder), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main() -> None:
    """Serve until killed, after telling the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Objects) as server:
        server.folder, server.log = Path(sys.argv[1]), Path(sys.argv[2])
        print(f"127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
