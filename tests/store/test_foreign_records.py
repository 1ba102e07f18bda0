"""A run whose record is damaged, or was made to do harm, is refused in one plain line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmdist.errors import KmdistError
from kmdist.store import RunWriter, open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "r.zarr"
    writer = RunWriter.create(
        path, recipe="quantize", parameters={"k": 5}, fingerprint="f", images=["a"]
    )
    writer.write_labels("a", np.zeros((2, 2), int), k=5)
    writer.publish({"k": 5, "inertia": 1.5, "seed": 0})
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", "five"), ("k", -1), ("k", [5]), ("recipe", 7), ("runs", "k5"), ("runs", ["../../x"]),
        ("runs", [5]), ("runs", {"k5": 1}), ("rejected", ["a"]), ("rejected", [{"image": 3}]),
        ("parameters", []), ("scores", 1), ("timings", {"fit": "long"}), ("unclustered", "no"),
        ("inertia", {}), ("n_iter", "many"), ("versions", [1]), ("space", 3), ("seed", "x"),
        ("host", "here"), ("host", {"name": "h", "workers": "2", "memory_bytes": 1}),
    ],
)  # fmt: skip
def test_a_record_of_other_kinds_is_damaged(path: Path, key: str, value: Any) -> None:
    assert open_run(path).info()["k"] == 5
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["kmdist"][key] = value
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(KmdistError, match="the record of this run is damaged"):
        open_run(path)


def test_a_damaged_label_map_is_named_as_users_know_it(path: Path) -> None:
    chunks = [one for one in (path / "images/a").rglob("c/0/0") if one.is_file()]
    assert chunks
    for one in chunks:
        one.write_bytes(b"garbage")
    image = open_run(path).image("a")
    with pytest.raises(KmdistError, match=f"of {path} is damaged or cannot be read: .*backup"):
        image.read_labels()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"attributes":[]}', '{"attributes":{"width":"x","height":2}}', "[" * 9999],
)
def test_an_image_whose_record_is_damaged(path: Path, text: str) -> None:
    (path / "images/a/zarr.json").write_text(text)
    with pytest.raises(KmdistError, match="damaged"):
        open_run(path).image("a")
