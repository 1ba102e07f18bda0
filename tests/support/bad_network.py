"""A proxy before an HTTP server that does to requests what networks and busy servers do."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("reset", "lost reply", "truncate", "delay", "late listing", "503")

_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = {"connection", "transfer-encoding", "content-length"}


class BadNetwork(ThreadingHTTPServer):
    """Hands requests on to a server, a share of them badly.

    Parameters
    ----------
    server : host and port. share : of requests to which something happens. seed : of what.
    """

    daemon_threads = True

    def __init__(self, server: tuple[str, int], share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.share = server, share
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.done: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, listing: bool) -> str:
        """What happens to the next request; empty: nothing."""
        with self.lock:
            if self.random.random() >= self.share:
                return ""
            fault = self.random.choice(FAULTS)
            if (fault == "late listing") != listing:
                fault = "late listing" if listing else "delay"
            self.done[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are reset are meant to be."""


class _Handler(BaseHTTPRequestHandler):
    server: BadNetwork
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault("list-type=" in self.path)
        if fault == "reset":
            self._reset()
            return
        if fault == "503":
            self._reply(503, [("Content-Type", "application/xml")], _BUSY)
            return
        if fault in ("delay", "late listing"):
            time.sleep(0.05)
        behind = http.client.HTTPConnection(*self.server.behind)
        behind.request(self.command, self.path, body, dict(self.headers))
        reply = behind.getresponse()
        data = reply.read()
        behind.close()
        if fault == "lost reply":
            self._reset()
            return
        self._reply(reply.status, reply.getheaders(), data, cut=fault == "truncate")

    def _reply(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else len(data)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._reset()

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


for _method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler._hand_on)


@contextmanager
def bad_network(server: tuple[str, int], share: float, seed: int) -> Iterator[BadNetwork]:
    """A `BadNetwork` that serves while the block runs."""
    with BadNetwork(server, share, seed) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()
