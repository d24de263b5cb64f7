"""A local server in the place of Google Drive, of the Hugging Face Hub, and of any web site."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

# One line, as Drive writes it.
_CONFIRM = (
    '<html><body><p class="uc-warning-caption">Too large to scan for viruses.</p>'
    '<form id="download-form" action="/download" method="get"><input type="submit" value="Go"/>'
    '<input type="hidden" name="id" value="{id}"><input type="hidden" name="confirm" value="t">'
    '</form></body></html>'
)
_QUOTA = """<html><body><p class="uc-error-caption">Sorry</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>
</body></html>"""


class StandIn(ThreadingHTTPServer):
    """What it serves is set by a test while it runs.

    Attributes:
        drive: File of each Drive id, which stands behind a page that asks for a confirmation.
        hub: Folder whose ``OWNER/REPO/FILE`` are the Hub's.
        files: Content of other paths, ``{'/a.pth': b'...'}``.
        quota: Drive shows its quota page.
        cut: The next transfers that are not continued ones break off after this share of the file.
        ranges: Whether transfers can be continued.
        asked: Paths asked for, with the range.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.reset()

    def reset(self) -> None:
        """As at the start: it has nothing."""
        self.drive: dict[str, Path] = {}
        self.hub: Path | None = None
        self.files: dict[str, bytes] = {}
        self.quota = False
        self.cut: float | None = None
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f'http://127.0.0.1:{self.server_port}'


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A running server."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer as the site would whose path this is."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append((self.path, self.headers.get('Range')))
        hub = url.path.strip('/').split('/')
        if url.path in self.server.files:
            self._file(self.server.files[url.path])
        elif url.path == '/uc' and query.get('id') in self.server.drive:
            self._page(_QUOTA if self.server.quota else _CONFIRM.format(id=query['id']))
        elif url.path == '/download' and query.get('confirm') == 't':
            self._file(self.server.drive[query['id']].read_bytes(), 'attachment; filename="x.pth"')
        elif self.server.hub and len(hub) > 4 and hub[2] == 'resolve':
            self._hub_file(self.server.hub.joinpath(*hub[:2], *hub[4:]))
        else:
            self._page('<html><body>not found</body></html>', 404)

    def _page(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(text.encode())

    def _hub_file(self, path: Path) -> None:
        if path.is_file():
            self._file(path.read_bytes(), commit='0' * 40)
        else:
            self._page('Entry not found', 404)

    def _file(self, content: bytes, name: str | None = None, commit: str | None = None) -> None:
        start = 0
        wanted = self.headers.get('Range')
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix('bytes=').split('-')[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        for key, value in (('Content-Disposition', name), ('X-Repo-Commit', commit)):
            if value:
                self.send_header(key, value)
        self.send_header('Content-Type', 'application/octet-stream')
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        if self.command == 'HEAD':
            return
        end = len(content)
        if self.server.cut is not None and not wanted:
            end = int(self.server.cut * end)
        self.wfile.write(content[start:end])
        self.close_connection = True
