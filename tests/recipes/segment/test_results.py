"""What clusters are made of, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import kmdist
from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.recipes.predict import predict
from kmdist.recipes.segment.recipe import segment
from kmdist.store import Run
from tests.support.runs import bytes_of
from tests.support.scenes import PLACE, fields

SCENE = fields(96, 112)
ROWS = SCENE.reshape(-1, 5).astype(np.float64)


def labels_of(run: Run) -> np.ndarray:
    (name,) = run.images
    return np.asarray(run.labels(name)[:])


def test_quantiles_are_those_of_the_clusters_pixels(tmp_path: Path) -> None:
    run = segment(SCENE, tmp_path / "run.zarr", k=4)
    labels, shares = labels_of(run).ravel(), run.attributes["quantiles"]
    for cluster in range(4):
        own = ROWS[labels == cluster]
        found = run.array("channel_quantiles")[cluster]
        np.testing.assert_allclose(found, np.quantile(own, shares, axis=0))
        np.testing.assert_allclose(run.array("channel_sd")[cluster], own.std(axis=0))
    said = CliRunner().invoke(cli, ["info", str(run.path)])
    lines = [one for one in said.output.splitlines() if "±" in one or "cluster    share" in one]
    assert len(lines) == 5
    ends = [[i for i, c in enumerate(line) if c == ")"] for line in lines[1:]]
    assert all(one == ends[0] for one in ends), "columns stand below each other"
    drawn = kmdist.view(run, tmp_path / "s.png", what="signatures")
    assert Path(drawn).stat().st_size > 10_000
    assert kmdist.view(run, tmp_path / "maps.png")


@pytest.mark.slow
def test_each_image_has_clusters_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed, side in ((1, 96), (2, 80), (3, 1200)):
        scene = fields(side, 1100 if side > 1000 else 112, seed=seed)
        tifffile.imwrite(
            folder / f"{seed}.tif", scene, photometric="minisblack", planarconfig="contig",
            tile=(128, 128),
        )  # fmt: skip
    run = segment(folder, tmp_path / "run.zarr", k=4, shared=False, scale="standard", block_mpx=1.1)
    assert run.palette is None
    for name in ("1.tif", "2.tif", "3.tif"):
        alone = segment(folder / name, tmp_path / f"{name}.zarr", k=4, scale="standard")
        np.testing.assert_array_equal(run.labels(name)[:], alone.labels(name)[:])
        np.testing.assert_array_equal(run.image(name).centroids, alone.centroids)
        np.testing.assert_array_equal(run.image(name).counts, alone.counts)
    with pytest.raises(UsageError, match="no clusters"):
        predict(run, folder, tmp_path / "p.zarr")


def test_auto_chooses_k(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = np.kron(rng.integers(0, 5, (20, 20)), np.ones((5, 5), int))
    image = rng.normal(0, 1, (5, 3))[kinds] * 1000 + rng.normal(0, 5, (100, 100, 3))
    run = segment(image.astype(np.float32), tmp_path / "run.zarr", k="2..8", channel_axis=2)
    assert run.k == 5
    assert run.attributes["selection"]["k"] == 5
    assert adjusted_rand_score(kinds.ravel(), labels_of(run).ravel()) == 1


def test_weights_and_components_are_those_of_scikit_learn(tmp_path: Path) -> None:
    image = SCENE.astype(np.float64)
    scaled = (ROWS - ROWS.mean(0)) / ROWS.std(0)
    cases = {
        "weight": (scaled * [1, 3, 1, 1, 0.5], {"weight": {"2": 3, "5": 0.5}}),
        "components": (PCA(2).fit_transform(scaled), {"components": 2}),
    }
    for name, (rows, options) in cases.items():
        run = segment(image, tmp_path / f"{name}.zarr", k=4, scale="standard", tol=0, **options)
        expected = KMeans(4, n_init=5, tol=0, random_state=0).fit(rows).labels_
        assert adjusted_rand_score(expected, labels_of(run).ravel()) > 0.9999
        np.testing.assert_array_equal(run.predict(image), labels_of(run))
    with pytest.raises(UsageError, match="5 channels have at most"):
        segment(image, tmp_path / "x.zarr", k=2, components=6)
    with pytest.raises(UsageError, match="weight nir"):
        segment(image, tmp_path / "x.zarr", k=2, weight="nir=2")


def test_coordinates_keep_clusters_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 10, (120, 90, 3)).astype(np.float32)
    run = segment(noise, tmp_path / "run.zarr", k=2, coordinates=3, channel_axis=2)
    assert run.attributes["channels"] == ["1", "2", "3", "x", "y"]
    labels = labels_of(run)
    halves = np.arange(120)[:, None] >= 60
    assert adjusted_rand_score(np.broadcast_to(halves, (120, 90)).ravel(), labels.ravel()) > 0.8
    assert abs(np.diff(run.centroids[:, 4])[0]) == pytest.approx(60, abs=4)  # in pixels
    np.testing.assert_array_equal(run.predict(noise), labels)


def regions(labels: np.ndarray, k: int) -> np.ndarray:
    """Pixels of the region that each pixel is in."""
    sizes = np.zeros(labels.shape, np.int64)
    for label in range(k):
        found, _ = ndimage.label(labels == label)
        counts = np.bincount(found.ravel())
        sizes[found > 0] = counts[found[found > 0]]
    return sizes


@pytest.mark.slow
def test_small_regions_join_their_neighbours_across_tiles(tmp_path: Path) -> None:
    scene = fields(1500, 1300)
    rng = np.random.default_rng(0)
    speckled = rng.random(scene.shape[:2]) < 0.02
    scene[speckled] = scene[::-1][speckled]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene, photometric="minisblack", planarconfig="contig", tile=(256, 256))
    plain = segment(path, tmp_path / "plain.zarr", k=4)
    before = labels_of(plain)
    whole = segment(path, tmp_path / "whole.zarr", k=4, min_region=9)
    tiled = segment(path, tmp_path / "tiled.zarr", k=4, min_region=9, block_mpx=1.1)
    after = labels_of(whole)
    np.testing.assert_array_equal(labels_of(tiled), after)
    np.testing.assert_array_equal(tiled.labels("a.tif", 1)[:], after[::2, ::2])
    assert regions(before, 4).min() < 9
    assert regions(after, 4).min() >= 9
    large = regions(before, 4) >= 9
    np.testing.assert_array_equal(after[large], before[large])


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["always", "never"])
def test_seeds_belong_to_pixels_and_not_to_tiles(keep: str, tmp_path: Path) -> None:
    scene = fields(2200, 1300)
    scene[:, :37] = 0
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene, photometric="minisblack", planarconfig="contig", tile=(256, 256))
    runs = [
        segment(
            path, tmp_path / f"{n}.zarr", k=5, keep_pixels=keep, nodata=0, scale="robust", **options
        )
        for n, options in enumerate([{}, {"block_mpx": 1.1}, {"block_mpx": 1.1, "workers": 1}])
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(labels_of(run), labels_of(runs[0]))
        for name in ("centroids", "counts", "channel_mean", "channel_sd"):
            np.testing.assert_array_equal(run.array(name), runs[0].array(name))
        assert run.inertia == runs[0].inertia
    assert bytes_of(Path(runs[1].path)) == bytes_of(Path(runs[2].path))
    alone = segment(scene[:, 37:], tmp_path / "c.zarr", k=5, keep_pixels=keep, scale="robust")
    np.testing.assert_array_equal(labels_of(alone), labels_of(runs[0])[:, 37:])


@pytest.mark.slow
@pytest.mark.parametrize("placed", [True, False])
def test_polygons_cover_the_regions_that_are_large_enough(tmp_path: Path, *, placed: bool) -> None:
    rasterio = pytest.importorskip("rasterio")
    from rasterio.features import rasterize

    scene = SCENE.copy()
    scene[40:50, 20:70] = 0
    tags = {"extratags": PLACE} if placed else {}
    tifffile.imwrite(
        tmp_path / "a.tif", scene, planarconfig="contig", photometric="minisblack", **tags
    )
    run = segment(tmp_path / "a.tif", tmp_path / "run.zarr", k=4, nodata=0)
    side = 28.5 if placed else 1.0
    for least in (0, 100):
        out = tmp_path / f"out{least}"
        words = [
            "export",
            str(run.path),
            str(out),
            "--polygons",
            "--min-area",
            str(least * side**2),
        ]
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        collection = json.loads((out / "a.geojson").read_text())
        transform = rasterio.Affine.identity()
        if placed:
            name = collection["crs"]["properties"]["name"]
            with rasterio.open(out / "a.tif") as made:
                transform = made.transform
                assert rasterio.CRS.from_user_input(name) == made.crs
        found = [(one["geometry"], one["properties"]["cluster"]) for one in collection["features"]]
        drawn = rasterize(found, SCENE.shape[:2], fill=255, transform=transform, dtype=np.uint8)
        expected = labels_of(run).copy()
        sizes = regions(expected, 4)
        expected[(sizes < least) | (expected == 255)] = 255
        np.testing.assert_array_equal(drawn, expected)
        areas = [one["properties"]["area"] / side**2 for one in collection["features"]]
        assert sum(areas) == pytest.approx((expected != 255).sum())
    with pytest.raises(UsageError, match="--polygons"):
        kmdist.export(run, tmp_path / "c", min_area=3)
