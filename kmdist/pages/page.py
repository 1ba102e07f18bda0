"""Pages from templates: every text escaped, nothing loaded, scripts and styles by their hashes."""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from kmdist import __version__
from kmdist.images.color import hex_color
from kmdist.pages.charts import line_chart

_FOLDER = files("kmdist.pages")


def render(
    template: str, scripts: tuple[str, ...] = (), *, connect: str = "'none'", **context: Any
) -> str:
    """A page.

    Parameters
    ----------
    template : in ``templates/``. scripts : in ``static/``, put into the page in this order.
    connect : where its scripts may fetch from. context : what the template shows.
    """
    code = {name: static_text(name) for name in scripts}
    style = static_text("report.css")
    page = _environment().get_template(template)
    policy = content_policy(code.values(), style, connect)
    return page.render(code=code, style=style, policy=policy, version=__version__, **context)


def fragment(template: str, **context: Any) -> str:
    """Part of somebody else's page."""
    return _environment().get_template(template).render(**context)


def content_policy(scripts: Iterable[str], style: str, connect: str) -> str:
    """A content security policy (W3C, level 3) of a page that runs these scripts and no others."""
    allowed = " ".join(_hash(text) for text in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        f"img-src 'self' data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def static_text(name: str) -> str:
    """A file of ``static/``."""
    return (_FOLDER / "static" / name).read_text("utf-8")


def data_url(kind: str, content: bytes) -> str:
    """Bytes within a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture_url(pixels: np.ndarray) -> str:
    """(y, x), (y, x, 3) or (y, x, 4) uint8 as a PNG within a page."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return data_url("image/png", file.getvalue())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kmdist.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers: Mapping[str, Any] = {
        "line_chart": line_chart,
        "picture_url": picture_url,
        "hex_color": hex_color,
    }
    environment.globals.update(helpers)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment
