"""Pictures of runs of digits."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kmdist.recipes.digits.pictures import figure


@pytest.mark.slow
@pytest.mark.parametrize("k", [10, 47, 48, 256])
def test_a_confusion_of_many_clusters_stays_readable(k: int, tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(0, 999, (k, 10))
    names = [str(name) for name in range(10)]
    run = SimpleNamespace(
        path=tmp_path,
        runs={},
        attributes={"class_names": names},
        array={"confusion": table}.get,
    )
    drawn = figure(run, "confusion")  # type: ignore[arg-type]
    width_in, height_in = drawn.get_size_inches()
    assert height_in < 20
    assert width_in < 60
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    shown = np.array([int(text.replace(",", "")) for text in texts]).reshape(-1, 11)
    ticks = [label.get_text() for axes in drawn.axes for label in axes.get_yticklabels()]
    assert ticks[-1] == "total"
    order = [int(tick) for tick in ticks[:-1]]
    assert sorted(order) == list(range(k))
    np.testing.assert_array_equal(shown[:-1, :-1], table[order])
    np.testing.assert_array_equal(shown[:-1, -1], table[order].sum(axis=1))
    assert np.all(np.diff(table[order].argmax(axis=1)) >= 0), "the largest are on a diagonal"
    np.testing.assert_array_equal(shown[-1], [*table.sum(axis=0), table.sum()])
