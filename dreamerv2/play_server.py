"""The web server of `play`: one page, a stream of frames to it, messages of keys from it.

It is meant for one person on one machine. It listens on the loopback interface unless told
otherwise, and it refuses requests whose `Host` is not a name of this machine or that come from
pages of other sites, so that no web page elsewhere can look at or steer the game.
"""

from __future__ import annotations

import errno
import http.server
import importlib.resources
import ipaddress
import json
import socket
import sys
import threading
import urllib.parse
from http import HTTPStatus
from typing import Any, NoReturn

from dreamerv2.common.errors import UserError
from dreamerv2.play_session import Session

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/play.js": ("play.js", "text/javascript; charset=utf-8"),
    "/plot.js": ("plot.js", "text/javascript; charset=utf-8"),
    "/play.css": ("play.css", "text/css; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MOST_BYTES = 1 << 16

# Seconds between signs of life on a stream without frames; pages wait a little longer.
HEARTBEAT = 2.0


class Server:
    """Listens from the start, and answers from `start` until `close`.

    Args:
        host: Address to listen on.
        port: 0 for any that is free.

    Raises:
        UserError: The address is not of this machine, or the port is in use or not allowed.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8765) -> None:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._http = _server_class(family)((host, port), _Handler)
        except OSError as error:
            raise UserError(_explain(error, host, port)) from None
        self._http.names = _names(host)
        self._http.everyone = _is_wildcard(host)
        self.port: int = self._http.server_address[1]
        shown = "127.0.0.1" if _is_wildcard(host) else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"
        self._thread: threading.Thread | None = None

    def start(self, session: Session) -> None:
        """Serve a session in threads of its own."""
        self._http.session = session
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; streams end with their session."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    session: Session
    names: frozenset[str]
    everyone: bool

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report bugs, not browsers that hang up."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "dreamerv2"
    sys_version = ""
    timeout = 60.0  # Of one read or write.
    server: _HTTPServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing; the terminal is for the player."""

    def _answer(self, function: Any) -> None:
        try:
            self._check_source()
            function()
        except _Refused as refused:
            self.close_connection = True
            self._send(refused.status, f"{refused}\n".encode(), "text/plain; charset=utf-8")

    def _check_source(self) -> None:
        """Refuse what another site's page, or a name that was made to point here, asks for."""
        host = self.headers.get("Host", "")
        name = _name(host)
        # Names can be made to point anywhere by whoever owns them; addresses can't.
        everyone = self.server.everyone and _is_address(name)
        if name not in self.server.names and not everyone:
            raise _Refused(
                HTTPStatus.FORBIDDEN, f"This server does not answer for the host {host!r}."
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise _Refused(HTTPStatus.FORBIDDEN, "Pages of other sites are not served.")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if self.path != "/" and site not in ("same-origin", "none"):
            raise _Refused(HTTPStatus.FORBIDDEN, "Pages of other sites are not served.")

    def _get(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/events":
            self._stream(urllib.parse.parse_qs(query).get("client", [""])[0])
        elif path in FILES:
            name, kind = FILES[path]
            folder = importlib.resources.files("dreamerv2") / "play_page"
            self._send(HTTPStatus.OK, (folder / name).read_bytes(), kind)
        else:
            self._not_found()

    def _post(self) -> None:
        if self.path != "/input":
            self._not_found()
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Messages are application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BYTES:
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The message is too long, or of no length."
            )
        try:
            self.server.session.receive(json.loads(self.rfile.read(int(length))))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"The message is not valid: {error}") from None
        self._send(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def _stream(self, client: str) -> None:
        """Send events until the page or the session ends."""
        session = self.server.session
        self.close_connection = True
        # Counted before the first byte, so that whoever reads it knows it is.
        session.join(client)
        try:
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self._event("hello", session.describe())
            number = 0
            while True:
                try:
                    news = session.next(number, HEARTBEAT)
                except EOFError:
                    self._event("bye", "{}")
                    return
                if news is None:
                    self._event("alive", "{}")
                else:
                    number, text = news
                    self._event("frame", text)
        finally:
            session.leave(client)

    def _event(self, name: str, text: str) -> None:
        self.wfile.write(f"event: {name}\ndata: {text}\n\n".encode())

    def _not_found(self) -> NoReturn:
        raise _Refused(HTTPStatus.NOT_FOUND, "There is nothing here; the game is at /.")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self._headers(kind)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)


def _server_class(family: int) -> type[_HTTPServer]:
    return type("_Server", (_HTTPServer,), {"address_family": family})


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _names(host: str) -> frozenset[str]:
    """Return the names that `Host` may have.

    Through a forwarded port the page comes as `localhost` with any port number, so only the name
    is looked at.
    """
    names = {"localhost", "127.0.0.1", "::1", host.lower()}
    if _is_wildcard(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """Return the name in a `Host` header, in lower case, or nothing if there is none."""
    try:
        url = urllib.parse.urlsplit(f"//{host}")
        return url.hostname or "" if url.netloc == host and url.username is None else ""
    except ValueError:
        return ""


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another one, as in --port {port + 1}, or --port 0."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is not for you to use ({error.strerror}); choose one from 1024 on."
    return f"the host {host!r} is no address of this machine ({error}); leave --host out."
