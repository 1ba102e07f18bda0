"""`kmdist serve`: a run live, for this machine's browser: read only, behind a secret address.

Every address begins with a random token. What follows is matched against a list; images go by
number, so that no part of an address is ever a path.
"""

import json
import re
import secrets
import shlex
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kmdist.errors import KmdistError, UsageError
from kmdist.images import Window
from kmdist.job.recipe import Original
from kmdist.pages.page import render
from kmdist.pages.run_report import MODES, about, clusters_of, viewer_data
from kmdist.pages.tiles import LAYERS, labels_of, thumbnail, tile
from kmdist.pictures.extract import extract
from kmdist.pictures.run_pictures import RunPicture, try_original
from kmdist.store import Run
from kmdist.store.reader import opened

HOST = "127.0.0.1"
SCRIPTS = ("openseadragon/openseadragon.min.js", "tiled.js", "viewer.js", "served.js")
SAVING = "Saved in full size, as the command does it."
FOOTER = "Served to this machine alone, read only."
_KEPT = 4
"""Originals that are held, of formats that are decoded whole."""

_NUMBERS = ("fit", "number", "level", "x", "y")
"""Parts of addresses that are numbers."""

Answer = tuple[str, bytes]
"""Media type and content."""


class Site:
    """Answers about one run.

    Parameters
    ----------
    run : with label maps.

    Raises
    ------
    UsageError : the run has none.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._fits = run.fits
        self._names = list(self._fits[0].images)
        if not self._names:
            raise UsageError(
                f"{run.path} has no label maps to look into (recipe {run.recipe}); "
                "kmdist report shows what it has"
            )
        self._original = lru_cache(_KEPT)(self._find_original)

    @cached_property
    def _routes(self) -> Mapping[str, Callable[..., Answer | None]]:
        """Patterns of addresses, and what answers them."""
        at = r"(?P<fit>\d{1,4})/(?P<number>\d{1,9})"
        layer, clusters = (
            rf"(?P<layer>{'|'.join(LAYERS)})",
            r"c(?P<clusters>(?:\d{1,5}(?:,\d{1,5}){0,4000})?)",
        )
        place = r"(?P<level>\d{1,2})/(?P<x>\d{1,9})/(?P<y>\d{1,9})"
        return {
            r"": self.page,
            r"image/(?P<number>\d{1,9})": self.image,
            r"thumbnail/(?P<number>\d{1,9})\.png": self.thumbnail,
            rf"label/{at}/(?P<x>\d{{1,9}})/(?P<y>\d{{1,9}})": self.label,
            rf"extract/{at}/{clusters}/(?P<what>cutout|mask)\.png": self.extract,
            rf"tiles/{at}/{layer}/{clusters}/{place}\.png": self.tile,
        }

    def answer(self, path: str) -> Answer | None:
        """What is at an address below the token; None: nothing."""
        for pattern, action in self._routes.items():
            found = re.fullmatch(pattern, path, re.ASCII)
            if found:
                words = found.groupdict()
                try:
                    return action(**{k: int(v) if k in _NUMBERS else v for k, v in words.items()})
                except IndexError:
                    return None
        return None

    def page(self) -> Answer:
        """The page itself."""
        images = [{"name": name, "quoted": shlex.quote(name)} for name in self._names]
        data = {**viewer_data(self._run), "images": images, "saving": SAVING}
        viewer = {"shown": len(images), "all": len(images), "modes": MODES, "data": data}
        context = {"viewer": viewer, "footer": FOOTER, **about(self._run)}
        text = render("run.html", SCRIPTS, connect="'self'", **context)
        return "text/html; charset=utf-8", text.encode("utf-8", "backslashreplace")

    def image(self, number: int) -> Answer:
        """Size, colours and shares of one image in each fit."""
        pictures = [self._picture(fit, number) for fit in range(len(self._fits))]
        image = pictures[0].image
        size = {"width": image.width, "height": image.height, "step": 1}
        note = self._original(number)[1]
        found = {**size, "note": note, "fits": [_fit(one) for one in pictures]}
        return "application/json", json.dumps(found).encode()

    def thumbnail(self, number: int) -> Answer:
        """A small picture."""
        return "image/png", thumbnail(self._picture(0, number))

    def label(self, fit: int, number: int, x: int, y: int) -> Answer | None:
        """The cluster of a pixel."""
        image = self._picture(fit, number).image
        if x >= image.width or y >= image.height:
            return None
        label = labels_of(image, 0, Window(y, x, y + 1, x + 1))[0, 0]
        return "application/json", json.dumps(int(label)).encode()

    def tile(
        self,
        fit: int,
        number: int,
        layer: str,
        level: int,
        x: int,
        y: int,
        clusters: str,
    ) -> Answer | None:
        """A tile of a layer."""
        picture, original = self._picture(fit, number), self._original(number)[0]
        made = tile(picture, layer, level, x, y, original=original, clusters=_numbers(clusters))
        return None if made is None else ("image/png", made)

    def extract(self, fit: int, number: int, what: str, clusters: str) -> Answer:
        """A cut-out or mask in full size."""
        run, name = self._fits[fit], self._names[number]
        with tempfile.TemporaryDirectory(prefix="kmdist-") as folder:
            path = Path(folder) / "picture.png"
            extract(run, name, path, clusters=_numbers(clusters), mask=what == "mask")
            return "image/png", path.read_bytes()

    def _picture(self, fit: int, number: int) -> RunPicture:
        run = self._fits[fit]
        return RunPicture(run, run.images[self._names[number]])

    def _find_original(self, number: int) -> tuple[Original | None, str]:
        return try_original(self._picture(0, number))


def _numbers(listed: str) -> list[int]:
    """Of clusters, as addresses list them."""
    return [int(number) for number in listed.split(",") if number]


def _fit(picture: RunPicture) -> dict[str, Any]:
    """Colours and shares, counted at the level of the pyramid that is one chunk."""
    image = picture.image
    whole = Window(0, 0, image.height, image.width)
    return clusters_of(picture, labels_of(image, image.levels - 1, whole))


class Server(ThreadingHTTPServer):
    """Serves one run on loopback.

    Parameters
    ----------
    port : 0: a free one.

    Raises
    ------
    UsageError : the run has no label maps, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, run: Run | str | Path, port: int = 0) -> None:
        self.site = Site(opened(run))
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}; 0 takes a free one") from error

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        token, slash, path = asked.path[1:].partition("/")
        right = secrets.compare_digest(token.encode(), self.server.token.encode())
        if not (right and slash):
            return self._send(HTTPStatus.FORBIDDEN, "text/plain", b"wrong or missing token\n")
        try:
            found = self.server.site.answer(path)
        except KmdistError as error:
            return self._send(
                HTTPStatus.BAD_REQUEST,
                "text/plain",
                f"{error}\n".encode("utf-8", "backslashreplace"),
            )
        except (RuntimeError, ValueError, OSError) as error:  # a checksum is a RuntimeError
            text = f"damaged or gone: {error}\n".encode("utf-8", "backslashreplace")
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", text)
        if found is None:
            return self._send(HTTPStatus.NOT_FOUND, "text/plain", b"nothing is here\n")
        return self._send(HTTPStatus.OK, *found)

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "private, max-age=3600" if status == 200 else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing: the address has the token."""
