"""Clusters of a digits run divided further and joined: labels, models and the tree."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.digits.tree import merge, split
from kmdist.recipes.predict import predict
from kmdist.store import Run
from tests.support.dask_processes import DaskProcesses
from tests.support.runs import bytes_of

SAMPLE = "sample:digits"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        preset: digits(SAMPLE, folder / f"{preset}.zarr", preset=preset, k=k)
        for preset, k in (("raw", 24), ("landmark", 10), ("refined", 10))
    }


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == c).tolist()) for c in np.unique(labels)}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["raw", "landmark", "refined"])
def test_split(runs: dict[str, Run], tmp_path: Path, preset: str) -> None:
    run = runs[preset]
    before = run.labels()[:]
    finer = split(run, tmp_path / "s.zarr", cluster=7, k=3)
    labels = finer.labels()[:]
    assert finer.k == run.k + 2
    np.testing.assert_array_equal(finer.counts, np.bincount(labels, minlength=finer.k))
    assert np.all(np.diff(finer.counts) <= 0)
    parts = np.unique(labels[before == 7])
    assert len(parts) == 3
    assert as_sets(before[before != 7]) == as_sets(labels[before != 7])
    tree = finer.attributes["tree"]
    assert sorted(n["cluster"] for n in tree if n["by"] == "split") == sorted(parts.tolist())
    assert {tuple(n["from"]) for n in tree if n["by"] == "split"} == {(7,)}
    assert tree[7]["cluster"] is None
    assert tree[7]["count"] == run.counts[7]
    for node in tree:
        if node["cluster"] is not None:
            assert finer.counts[node["cluster"]] == node["count"]
    if preset == "raw":
        assert finer.inertia < run.inertia


def test_merge_named(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["landmark"]
    joined = merge(run, tmp_path / "m.zarr", clusters=[(2, 5), (8, 9, 0)])
    old, labels = run.labels()[:], joined.labels()[:]
    assert joined.k == 7
    expected = np.array([0, 1, 2, 3, 4, 2, 6, 7, 0, 0])[old]
    assert as_sets(expected) == as_sets(labels)
    made = [n for n in joined.attributes["tree"] if n["by"] == "merge"]
    assert sorted(n["from"] for n in made) == [[0, 8, 9], [2, 5]]


@pytest.mark.parametrize("method", ["ward", "spectral"])
def test_merge_to(runs: dict[str, Run], tmp_path: Path, method: str) -> None:
    joined = merge(runs["raw"], tmp_path / "m.zarr", to=10, method=method)
    old, labels = runs["raw"].labels()[:], joined.labels()[:]
    assert joined.k == 10
    assert all(len(np.unique(labels[old == c])) == 1 for c in range(24))
    assert joined.attributes["scores"]["accuracy_hungarian"] > 0.6
    rows = open_stack(SAMPLE)[0].read(0, 1797).reshape(1797, 64) / 255.0
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(10)])
    np.testing.assert_allclose(joined.centroids, means, atol=1e-6)
    assert joined.inertia == pytest.approx(((rows - means[labels]) ** 2).sum(), rel=1e-6)


@pytest.mark.slow
def test_changed_again_and_predicted(runs: dict[str, Run], tmp_path: Path) -> None:
    one = split(runs["refined"], tmp_path / "1.zarr", cluster=3, k=2)
    two = split(one, tmp_path / "2.zarr", cluster=0, k=2)
    three = merge(two, tmp_path / "3.zarr", clusters=[(0, 11)])
    tree = three.attributes["tree"]
    assert [node["id"] for node in tree] == list(range(len(tree)))
    assert sorted(n["cluster"] for n in tree if n["cluster"] is not None) == list(range(11))
    again = predict(tmp_path / "3.zarr", SAMPLE, tmp_path / "p.zarr")
    np.testing.assert_array_equal(again.labels()[:], three.labels()[:])
    np.testing.assert_array_equal(
        three.predict(open_stack(SAMPLE)[0].read(0, 99)), three.labels()[:99]
    )


def test_the_same_bytes_for_any_workers(
    runs: dict[str, Run], tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    for name, keep, compute in (
        ("a", "always", {"workers": 1}),
        ("b", "never", {"workers": 3}),
        ("c", "auto", {"scheduler": dask_cluster.address}),
    ):
        how = {**compute, "block_mpx": 0.05, "keep_pixels": keep}
        split(runs["landmark"], tmp_path / f"{name}.zarr", cluster=1, k=3, **how)
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "c.zarr")


def test_wrong_usage(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["landmark"]
    with pytest.raises(UsageError, match="clusters 0 to 9"):
        split(run, cluster=10)
    with pytest.raises(UsageError, match="which make 2 to"):
        split(run, cluster=1, k=900)
    with pytest.raises(UsageError, match="either clusters=/--clusters 2,5 or to=/--to"):
        merge(run, clusters=[(1, 2)], to=3)
    with pytest.raises(UsageError, match="has 10 clusters"):
        merge(run, to=10)
    with pytest.raises(UsageError, match="not 12"):
        merge(run, clusters=[(1, 12)])
    with pytest.raises(UsageError, match="different clusters, each once"):
        merge(run, clusters=[(1, 2), (2, 3)])
    np.save(tmp_path / "x.npy", np.zeros((1797, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="not what"):
        split(run, cluster=1, images=tmp_path / "x.npy")


def test_equal_images_cannot_be_divided(tmp_path: Path) -> None:
    images = np.zeros((60, 8, 8), np.uint8)
    images[:30, 2:5, 3], images[30:, 5, 2:7] = 255, 255
    np.save(tmp_path / "x.npy", images)
    run = digits(tmp_path / "x.npy", tmp_path / "r.zarr", preset="raw", k=2)
    with pytest.raises(KmdistError, match="not so many different images"):
        split(run, tmp_path / "s.zarr", cluster=0, k=2)


def test_command_line(runs: dict[str, Run], tmp_path: Path) -> None:
    path, out = str(runs["landmark"].path), str(tmp_path / "s.zarr")
    done = CliRunner().invoke(cli, ["split", path, "--cluster", "7", "-k", "3", "-o", out])
    assert done.exit_code == 0, done.output
    assert "part of #7" in done.output
    done = CliRunner().invoke(cli, ["merge", out, "--to", "10", "-o", str(tmp_path / "m.zarr")])
    assert done.exit_code == 0, done.output
    assert "joined from" in done.output
    wrong = CliRunner().invoke(cli, ["merge", out, "--clusters", "2", "-o", "x.zarr"])
    assert wrong.exit_code == 2
    assert "such as 2,5" in wrong.output
