"""`kmdist serve`: read only, behind a token; tiles are the pixels of the label map."""

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kmdist
from kmdist.pages.server import Server
from kmdist.pages.tiles import TILE_PX, labels_of
from kmdist.store import RunWriter
from tests.support.writing import released

K = 5


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a label map of several levels, and a marker in one corner."""
    path = tmp_path_factory.mktemp("large") / "large.zarr"
    y, x = np.mgrid[0:2700, 0:2300]
    labels = ((x // 70 + y // 90 + (x * y) // 9000) % K).astype(np.uint8)
    palette = np.arange(3 * K, dtype=np.uint8).reshape(K, 3) * 15
    with released(
        RunWriter.create(
            path, recipe="quantize", parameters={"k": K}, fingerprint="f", images=["x/<b>.png"]
        )
    ) as writer:
        nowhere = (x < 40) & (y < 40)
        writer.write_labels("x/<b>.png", labels, k=K, unclustered=nowhere, palette=palette)
        writer.write_array("palette", palette, ("cluster", "channel"))
        writer.write_array("counts", np.bincount(labels.ravel()), ("cluster",))
        writer.publish({"k": K, "seed": 0})
    return path


@pytest.fixture(scope="module")
def server(large: Path) -> Iterator[Server]:
    with Server(large) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _get(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
        return bytes(answer.read())


def _status(url: str, method: str = "GET") -> int:
    try:
        _get(url, method)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def test_only_the_address_with_the_token_answers(server: Server) -> None:
    base = server.url.removesuffix(f"{server.token}/")
    assert server.server_address[0] == "127.0.0.1"
    assert b"large.zarr" in _get(server.url)
    assert b"x/<b>.png" not in _get(server.url)
    for path in ("", "wrong/", f"{server.token[:-1]}/", f"{server.token}", "../", "é/"):
        assert _status(base + urllib.request.quote(path)) == 403


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        "tiles/../../zarr.json",
        "%2e%2e/%2e%2e/etc/passwd",
        "tiles/0/0/labels/c/0/0/../../zarr.json",
        "tiles/0/0/labels/c/0/99/0.png",
        "tiles/0/7/labels/c/0/0/0.png",
        "tiles/9/0/labels/c/0/0/0.png",
        "image/-1",
        "tiles/0/0/labels/c/99/0/0.png",
        "tiles/0/0/chosen/c999999/0/0/0.png",
        "label/0/0/2300/0",
        "zarr.json",
    ],
)
def test_what_is_not_there_is_not_found(server: Server, path: str) -> None:
    assert _status(server.url + path) == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(server: Server, method: str) -> None:
    assert _status(server.url, method) == 501


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_tiles_are_the_pixels_of_the_label_map(server: Server, large: Path, level: int) -> None:
    run = kmdist.open_run(large)
    labels = run.labels("x/<b>.png")[:][:: 1 << level, :: 1 << level]
    found = np.zeros((*labels.shape, 4), np.uint8)
    for y in range(-(-labels.shape[0] // TILE_PX)):
        for x in range(-(-labels.shape[1] // TILE_PX)):
            url = f"{server.url}tiles/0/0/recolored/c/{level}/{x}/{y}.png"
            part = np.asarray(Image.open(io.BytesIO(_get(url))))
            place = (slice(y * TILE_PX, None), slice(x * TILE_PX, None))
            found[place][: part.shape[0], : part.shape[1]] = part
    assert np.array_equal(found[..., 3] == 255, labels < K)
    assert np.array_equal(found[..., :3][labels < K], run.palette[labels[labels < K]])


def test_chosen_clusters_and_the_saved_mask(server: Server, large: Path, tmp_path: Path) -> None:
    labels = kmdist.open_run(large).labels()[:]
    url = f"{server.url}tiles/0/0/chosen/c1,3/0/1/2.png"
    shown = np.asarray(Image.open(io.BytesIO(_get(url))))[..., 3] == 255
    assert np.array_equal(shown, np.isin(labels[1024:1536, 512:1024], [1, 3]))
    kmdist.extract(large, "x/<b>.png", tmp_path / "m.png", clusters=[1, 3], mask=True)
    assert _get(f"{server.url}extract/0/0/c1,3/mask.png") == (tmp_path / "m.png").read_bytes()
    assert _status(f"{server.url}extract/0/0/c/mask.png") == 400
    assert json.loads(_get(f"{server.url}label/0/0/1000/900")) == labels[900, 1000]
    assert max(Image.open(io.BytesIO(_get(f"{server.url}thumbnail/0.png"))).size) <= 128


def test_a_level_that_the_pyramid_lacks_is_made_of_the_last(large: Path) -> None:
    from kmdist.images import Window

    image = kmdist.open_run(large).images["x/<b>.png"]
    whole = Window(0, 0, image.height, image.width)
    for level in range(8):
        step = 1 << level
        assert np.array_equal(labels_of(image, level, whole), image.labels()[::step, ::step])


def test_a_run_without_label_maps_says_what_shows_it(tmp_path: Path) -> None:
    run = kmdist.digits("sample:digits", tmp_path / "d.zarr", k=3, preset="raw", workers=1)
    with pytest.raises(kmdist.UsageError, match="kmdist report"):
        Server(run)
