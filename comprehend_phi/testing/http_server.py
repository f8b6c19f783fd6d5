"""A small HTTP/1.1 server for one WSGI application, on the loopback interface.

It keeps connections open between requests and accepts chunked request bodies. It reads each request
completely before the application runs, and sends each response with its length.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, cast
from urllib.parse import unquote_to_bytes

HOST = "127.0.0.1"

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class ConnectionReset(Exception):
    """The application wants the connection to be reset instead of sending a response."""


class HTTPServer(ThreadingTCPServer):
    """Serves an application in one thread for each connection.

    Args:
        port: the port to listen on; 0 chooses a free one.
        application: a WSGI application. It may raise `ConnectionReset`.

    Raises:
        OSError: the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, application: Application) -> None:
        self.application = application
        self._connections: set[socket.socket] = set()
        super().__init__((HOST, port), cast("type[BaseRequestHandler]", _Handler))

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        port: int = self.socket.getsockname()[1]
        return port

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection and remember it."""
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening and end all connections, so that nobody can send another request."""
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):  # the client may have been faster
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of a bug. It is not a bug if the client closes the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: HTTPServer  # pyright: ignore[reportIncompatibleVariableOverride] - as socketserver does
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send head and body in one packet

    def do_GET(self) -> None:
        """Run the application for one request and send its response."""
        try:
            body = self._read_body()
        except ValueError:
            self.send_error(400)
            return
        opened: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            opened.append((status, headers))

        try:
            chunks = self.server.application(self._environ(body), start_response)
            content = b"".join(chunks)
        except ConnectionReset:
            self._reset()
            return
        except Exception:  # noqa: BLE001 - any bug of the application
            self.server.handle_error(self.request, self.client_address)
            self.send_error(500)
            self.close_connection = True
            return
        if callable(close := getattr(chunks, "close", None)):
            close()
        status, headers = opened[-1]
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        names = {name.lower() for name, _ in headers}
        if "date" not in names:
            self.send_header("Date", self.date_time_string())
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names and code not in ("204", "304"):
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection and "connection" not in names:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server calls these names

    def handle_expect_100(self) -> bool:
        """Tell the client at once to send the body."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def log_message(self, *_: object, **__: object) -> None:
        """Log nothing, because keys in URLs may name people."""

    def _read_body(self) -> bytes:
        """Return the request's body.

        Raises:
            ValueError: the length of the body or of a chunk is not a number.
            ConnectionError: the client closed the connection within the body.
        """
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length") or 0))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self._read(size))
            self.rfile.readline()  # the end of the chunk
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        if size < 0:
            raise ValueError
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionError
        return body

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "REQUEST_URI": self.path,
            "SERVER_NAME": HOST,
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.pop("HTTP_CONTENT_LENGTH", None)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        return environ

    def _reset(self) -> None:
        self.close_connection = True
        # With a linger time of 0, closing the socket sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
