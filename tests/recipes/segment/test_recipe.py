"""Pixels of any channels: the same clusters from every kind of file, and as scikit-learn finds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from sklearn.cluster import KMeans

import kmdist
from kmdist.engine.passes import ThreadPool
from kmdist.errors import KmdistError, UsageError
from kmdist.images.reading.axes import axes_of
from kmdist.job.memory import budget_of
from kmdist.job.running import plan_job
from kmdist.recipes.predict import predict
from kmdist.recipes.segment.options import SegmentOptions
from kmdist.recipes.segment.recipe import RECIPE, segment
from kmdist.recipes.segment.steps import outline
from kmdist.store import open_run
from tests.support.folders import DATA

EXACT: dict[str, Any] = {"tol": 0, "max_iter": 1000}


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A made scene of five channels of different range: fields with their own spectra."""
    rng = np.random.default_rng(0)
    fields = np.kron(rng.integers(0, 4, (6, 7)), np.ones((16, 16), int))
    spectra = rng.integers(200, 3000, (4, 5))
    return (spectra[fields] + rng.normal(0, 40, (96, 112, 5))).astype(np.uint16)


@pytest.fixture(scope="module")
def first(scene: np.ndarray) -> np.ndarray:
    rows = scene.reshape(-1, 5)
    return rows[[5, 500, 5000, 9000]].astype(np.float64)


def write(kind: str, scene: np.ndarray, folder: Path) -> Any:
    """The scene as one kind of input."""
    planes = np.ascontiguousarray(np.moveaxis(scene, -1, 0))
    path = folder / kind
    if kind == "contiguous.tif":
        tifffile.imwrite(path, scene, photometric="minisblack", planarconfig="contig")
    elif kind == "planar.tif":
        tifffile.imwrite(
            path, planes, photometric="minisblack", planarconfig="separate", tile=(32, 32)
        )
    elif kind == "pages.tif":
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX"})
    elif kind == "ome.ome.tif":
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    elif kind == "yxc.zarr":
        zarr.create_array(path, data=scene, chunks=(64, 64, 5))
    elif kind == "cyx.zarr":
        zarr.create_array(path, data=planes, dimension_names=["c", "y", "x"])
    elif kind == "a.npy":
        np.save(path, scene)
    elif kind == "a.npz":
        np.savez(path, scene=scene)
    elif kind == "array":
        return scene
    elif kind == "dask":
        import dask.array as da

        return da.from_array(scene, chunks=(50, 40, 3))
    else:
        import xarray

        return xarray.DataArray(planes, dims=("band", "y", "x"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "contiguous.tif",
        "planar.tif",
        "pages.tif",
        "ome.ome.tif",
        "yxc.zarr",
        "cyx.zarr",
        "a.npy",
        "a.npz",
        "array",
        "dask",
        "xarray",
    ],
)
def test_every_kind_of_input_gives_the_labels_of_scikit_learn(
    kind: str, scene: np.ndarray, first: np.ndarray, tmp_path: Path
) -> None:
    run = segment(write(kind, scene, tmp_path), tmp_path / "run.zarr", k=4, init=first, **EXACT)
    rows = scene.reshape(-1, 5).astype(np.float64)
    other = KMeans(4, init=first, n_init=1, tol=0, max_iter=1000).fit(rows)
    distances = ((run.centroids[:, None] - other.cluster_centers_) ** 2).sum(axis=2)
    same = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 1e-12
    (name,) = run.images
    np.testing.assert_array_equal(same[run.labels(name)[:].ravel()], other.labels_)
    assert run.inertia == pytest.approx(other.inertia_, rel=1e-12)
    np.testing.assert_array_equal(run.counts, np.sort(np.bincount(other.labels_))[::-1])


def test_landsat_as_scikit_learn(tmp_path: Path) -> None:
    path = DATA / "multiband" / "L7_ETMs.tif"
    if not path.exists():
        pytest.skip("public material 'multiband' is not there (KMDIST_DATA)")
    scene = tifffile.imread(path)
    rows = scene.reshape(-1, 6).astype(np.float64)
    start = rows[np.random.default_rng(0).choice(len(rows), 6, replace=False)]
    run = segment(path, tmp_path / "run.zarr", k=6, init=start, **EXACT)
    other = KMeans(6, init=start, n_init=1, tol=0, max_iter=1000).fit(rows)
    same = ((run.centroids[:, None] - other.cluster_centers_) ** 2).sum(axis=2).argmin(axis=1)
    labels = same[run.labels("L7_ETMs.tif")[:].ravel()]
    two = np.sort(((rows[:, None] - other.cluster_centers_) ** 2).sum(axis=2), axis=1)
    clear = two[:, 1] - two[:, 0] > 1e-6
    np.testing.assert_array_equal(labels[clear], other.labels_[clear])


def write_masked(path: Path, scene: np.ndarray, *, rows: int, as_vrt: bool) -> Path:
    """A TIFF whose mask, a page of its own, says that its first rows hold no data."""
    rasterio = pytest.importorskip("rasterio")
    height, width, count = scene.shape
    form = {"height": height, "width": width, "count": count, "dtype": "uint16", "tiled": True}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", blockxsize=64, blockysize=64, **form) as raster,
    ):
        raster.write(np.moveaxis(scene, -1, 0))
        mask = np.full((height, width), 255, np.uint8)
        mask[:rows] = 0
        raster.write_mask(mask)
    if not as_vrt:
        return path
    from rasterio.shutil import copy

    copy(path, path.with_suffix(".vrt"), driver="VRT")
    return path.with_suffix(".vrt")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nan", "value", "file", "alpha", "mask", "vrt"])
def test_pixels_without_data_influence_nothing(
    kind: str, scene: np.ndarray, first: np.ndarray, tmp_path: Path
) -> None:
    dtype = np.float32 if kind in ("nan", "value") else np.uint16
    alone = segment(scene[16:].astype(dtype), tmp_path / "alone.zarr", k=4, init=first)
    options: dict[str, Any] = {}
    holed: Any = scene.astype(np.float32)
    holed[:16] = np.nan
    if kind == "value":
        holed[:16, :, 2] = -9999
        options["nodata"] = -9999
    elif kind == "file":
        holed = tmp_path / "nodata.tif"
        marked = scene.copy()
        marked[:16] = 0
        tag = (42113, "s", 0, "0", True)
        tifffile.imwrite(
            holed, marked, photometric="minisblack", planarconfig="contig", extratags=[tag]
        )
    elif kind == "alpha":
        holed = tmp_path / "alpha.tif"
        shown = np.full((*scene.shape[:2], 1), 65535, np.uint16)
        shown[:16] = 0
        tifffile.imwrite(
            holed,
            np.concatenate([scene, shown], axis=2),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=[0, 0, 0, 0, 2],
        )
    elif kind in ("mask", "vrt"):
        holed = write_masked(tmp_path / "mask.tif", scene, rows=16, as_vrt=kind == "vrt")
    run = segment(holed, tmp_path / "run.zarr", k=4, init=first, **options)
    labels = run.labels(next(iter(run.images)))[:]
    assert (labels[:16] == 255).all()
    np.testing.assert_array_equal(labels[16:], alone.labels(next(iter(alone.images)))[:])
    np.testing.assert_array_equal(run.centroids, alone.centroids)
    np.testing.assert_array_equal(run.counts, alone.counts)


@pytest.mark.parametrize("scale", ["standard", "minmax", "robust"])
def test_scaled_channels_weigh_alike_and_centroids_keep_their_units(
    scale: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    truth = np.kron(rng.integers(0, 2, (8, 8)), np.ones((8, 8), int))
    image = np.stack([truth * 1e-3, rng.normal(0, 1e6, truth.shape)], axis=-1)
    image[..., 0] += rng.normal(0, 1e-5, truth.shape)
    run = segment(image, tmp_path / "run.zarr", k=2, scale=scale, channel_axis=2)
    labels = run.labels(next(iter(run.images)))[:]
    if scale != "minmax":
        return
    means = sorted(float(image[..., 0][labels == j].mean()) for j in range(2))
    np.testing.assert_allclose(sorted(run.centroids[:, 0]), means, rtol=1e-6)


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_tiles_or_kept_rows(
    scene: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "tiled.tif"
    large = np.tile(scene, (24, 20, 1))
    tifffile.imwrite(path, large, photometric="minisblack", planarconfig="contig", tile=(256, 256))
    start = large[[0, 100, 400, 900, 2000], [0, 900, 50, 3, 77]].astype(np.float64)
    plain = segment(path, tmp_path / "a.zarr", k=5, workers=1, init=start)
    labels = plain.labels("tiled.tif")[:]
    for name, options in {"two": {"workers": 2}, "tiles": {"block_mpx": 1.1}}.items():
        run = segment(path, tmp_path / f"{name}.zarr", k=5, init=start, **options)
        np.testing.assert_array_equal(run.labels("tiled.tif")[:], labels)
        np.testing.assert_array_equal(run.centroids, plain.centroids)
        np.testing.assert_array_equal(run.counts, plain.counts)
    drawn = segment(path, tmp_path / "c.zarr", k=5, keep_pixels="never", workers=1)
    again = segment(path, tmp_path / "d.zarr", k=5, keep_pixels="never", workers=2)
    np.testing.assert_array_equal(drawn.labels("tiled.tif")[:], again.labels("tiled.tif")[:])
    assert drawn.inertia <= 1.05 * plain.inertia
    found = np.bincount(drawn.labels("tiled.tif")[:].ravel(), minlength=5)
    np.testing.assert_array_equal(drawn.counts, found)
    assert np.all(np.diff(found) <= 0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"scale": "standard"}, {"components": 2}])
def test_means_near_zero_do_not_depend_on_tiles(options: dict[str, Any], tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1300, 1300, 2))
    image -= image.mean(axis=(0, 1))  # what is left of the means is rounding
    whole, tiled = (
        segment(image, tmp_path / f"{mpx}.zarr", k=3, channel_axis=2, block_mpx=mpx, **options)
        for mpx in (9.0, 1.05)
    )
    np.testing.assert_array_equal(whole.centroids, tiled.centroids)
    assert whole.inertia == tiled.inertia


def test_predict_gives_a_file_its_labels_back(scene: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scene)
    model = segment(tmp_path / "a.npy", tmp_path / "model.zarr", k=4, scale="standard")
    run = predict(model, tmp_path / "a.npy", tmp_path / "p.zarr")
    np.testing.assert_array_equal(run.labels("a.npy")[:], model.labels("a.npy")[:])
    assert run.inertia == model.inertia
    np.testing.assert_array_equal(open_run(model.path).predict(scene), model.labels("a.npy")[:])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_values_of_either_byte_order_are_the_same(
    scene: np.ndarray, suffix: str, shared: bool, tmp_path: Path
) -> None:
    found = []
    for order in "<>":
        path, values = tmp_path / f"scene.{suffix}", scene.astype(f"{order}u2")
        if suffix == "npy":
            np.save(path, values)
        else:
            tifffile.imwrite(path, values, byteorder=order, photometric="minisblack")
        run = segment(path, tmp_path / f"{ord(order)}.zarr", k=4, shared=shared)
        found.append(run.labels(path.name)[:])
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) >= 4


def test_kept_responses_are_clustered_as_kmeans_does(tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, (64, 80, 3), dtype=np.uint8))
    textures = kmdist.texture(
        tmp_path / "a.png", tmp_path / "t.zarr", k=2, preset="lm", keep_responses=True
    )
    rows = np.asarray(textures.images["a.png"].lazy("responses")[:])
    start = rows.reshape(-1, rows.shape[2])[[0, 700, 1400]]
    run = segment(str(textures.path), tmp_path / "run.zarr", k=3, init=start, **EXACT)
    fit = kmdist.KMeans(3, init=start, n_init=1, **EXACT).fit(rows.reshape(-1, rows.shape[2]))
    assert list(run.images) == ["a.png"]
    order = np.lexsort([*fit.cluster_centers_.T[::-1], -np.bincount(fit.labels_)])
    rank = np.empty(3, int)
    rank[order] = np.arange(3)
    np.testing.assert_array_equal(run.labels("a.png")[:].ravel(), rank[fit.labels_])


def test_channels_by_number_range_and_name(scene: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scene)
    run = segment(tmp_path / "a.npy", tmp_path / "a.zarr", k=2, channels="1,3-4")
    assert run.attributes["channels"] == ["1", "3", "4"]
    two = segment(scene[..., [0, 2, 3]], tmp_path / "b.zarr", k=2)
    np.testing.assert_array_equal(run.centroids, two.centroids)
    planes = np.moveaxis(scene, -1, 0)
    import xarray

    named = xarray.DataArray(planes, dims=("c", "y", "x"), coords={"c": list("ABCDE")})
    run = segment(named, tmp_path / "c.zarr", k=2, channels=["B", "D"])
    assert run.attributes["channels"] == ["B", "D"]


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "complex": (np.zeros((9, 9, 3), np.complex64), {}, "complex64"),
    "uint64": (np.zeros((9, 9, 3), np.uint64), {}, "uint64"),
    "infinite": (np.full((9, 9, 3), np.inf, np.float32), {}, "infinite"),
    "no data": (np.full((9, 9, 3), np.nan, np.float32), {}, "none of its pixels has data"),
    "out of range": (np.zeros((9, 9, 3), np.uint8), {"channels": "4"}, "there are 1 to 3"),
    "no such name": (np.zeros((9, 9, 3), np.uint8), {"channels": "red"}, "no channel 'red'"),
    "cube": (np.zeros((9, 9, 9), np.uint8), {}, "--channel-axis"),
    "objects": (np.zeros((9, 9, 3), object), {}, "values of type object"),
    "long": (np.zeros((9, 9, 3), np.longdouble), {}, "floating point of 16 to 64"),
    "superscript": (np.zeros((9, 9, 3), np.uint8), {"channels": "²"}, "no channel '²'"),
    "no time": (np.zeros((9, 9, 3), np.uint8), {"t": 1}, "there is no axis of this name"),
    "weight": (np.zeros((9, 9, 3), np.uint8), {"weight": "1=inf"}, "a number of 1e-09 to 1e"),
    "no name": (np.zeros((9, 9, 3), np.uint8), {"weight": 3}, "must be NAME=NUMBER"),
    "far": (np.zeros((9, 9, 3), np.uint8), {"coordinates": np.inf}, "not a valid finite number"),
    "texts": (np.zeros((9, 9, 1), np.uint8), {"init": np.array([["a"], ["b"]])}, "type <U1"),
    "imaginary": (np.zeros((9, 9, 1), np.uint8), {"init": np.array([[1j], [2j]])}, "complex128"),
    "ragged": (np.zeros((9, 9, 1), np.uint8), {"init": [[1.0], [2.0, 3.0]]}, "init: "),
    "endless": (np.zeros((9, 9, 1), np.uint8), {"k": "2..99999999999"}, "up to 1,000 numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_clustered_is_told(case: str, tmp_path: Path) -> None:
    array, options, said = BAD[case]
    options = {"k": 2, **options}
    with pytest.raises(KmdistError, match=said):
        segment(array, tmp_path / "run.zarr", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"components": 4}, "components is 4; 3 channels"),
        ({"weight": "blue=2"}, "channels are 1, 2, 3"),
        ({"init": np.zeros((2, 4))}, r"shape \(2, 4\); \(2, 3\)"),
        ({"init": np.full((2, 3), np.nan)}, "finite numbers"),
        ({"init": np.zeros((2, 3)), "k": "auto"}, "give -k 2 alone"),
        ({"init": np.zeros((2, 3)), "k": "2,3"}, "give -k 2 alone"),
    ],
)
def test_a_dry_run_tells_what_the_channels_do_not_allow(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 9, 3), np.uint8))
    asked = SegmentOptions(**{"k": 2, **options})
    with pytest.raises(UsageError, match=said):
        plan_job(RECIPE.fit([tmp_path], asked), tmp_path / "run.zarr", asked)


def test_pictures_are_clustered_by_their_colours(tmp_path: Path) -> None:
    import cv2

    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[:, 15:, 2], pixels[..., 3] = 200, 255
    pixels[:5, :, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    run = segment(tmp_path / "a.png", tmp_path / "run.zarr", k=2)
    assert run.attributes["channels"] == ["red", "green", "blue"]
    labels = run.labels("a.png")[:]
    assert (labels[:5] == 255).all()
    np.testing.assert_array_equal(run.centroids[labels[5:]][..., 0], pixels[5:, :, 2])


def test_exported_labels_keep_their_place_on_earth(scene: np.ndarray, tmp_path: Path) -> None:
    place = [
        (33550, "d", 3, (28.5, 28.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 288776.3, 9120761.0, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 31985), True),
        (34737, "s", 0, "WGS 84 / UTM zone 25S|", True),
    ]
    path = tmp_path / "scene.tif"
    holed = scene.astype(np.float32)
    holed[:4] = np.nan
    tifffile.imwrite(path, holed, photometric="minisblack", planarconfig="contig", extratags=place)
    run = segment(path, tmp_path / "run.zarr", k=3)
    kmdist.export(run, tmp_path / "out")
    with tifffile.TiffFile(path) as source, tifffile.TiffFile(tmp_path / "out/scene.tif") as made:
        before, after = source.pages[0], made.pages[0]
        for code, *_ in place:
            assert after.tags[code].value == before.tags[code].value
            assert after.tags[code].dtype == before.tags[code].dtype
        np.testing.assert_array_equal(after.asarray(), run.labels("scene.tif")[:])
        np.testing.assert_array_equal(after.colormap[:, :3].T // 257, run.palette)
        assert after.nodata == 255
    lines = (tmp_path / "out" / "clusters.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cluster,color,pixels,share,1 mean,1 sd,")


def test_more_clusters_than_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 pixels with data"):
        segment(np.arange(27, dtype=np.uint8).reshape(3, 3, 3), tmp_path / "r.zarr", k=10,
                channel_axis=2)  # fmt: skip


def test_a_bad_file_is_left_out_of_a_good_folder(scene: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    tifffile.imwrite(folder / "good.tif", scene, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(
        folder / "three.tif", scene[..., :3], photometric="minisblack", planarconfig="contig"
    )
    whole = (folder / "good.tif").read_bytes()
    (folder / "short.tif").write_bytes(whole[: len(whole) // 2])
    run = segment(folder, tmp_path / "run.zarr", k=3)
    assert list(run.images) == ["good.tif"]
    codes = {one["image"]: one["code"] for one in run.attributes["rejected"]}
    assert codes == {"short.tif": "truncated", "three.tif": "channels"}


def test_axes_are_told_by_name_first() -> None:
    by_name = axes_of((3, 64, 64), ["z", "y", "x"], chosen={"z": 1})
    assert (by_name.c, by_name.at) == (None, ((0, 1),))
    with pytest.raises(KmdistError, match="--z says which"):
        axes_of((3, 64, 64), ["z", "y", "x"])
    assert axes_of((64, 64, 48), [None] * 3).c == 2
    assert axes_of((48, 64, 64), [None] * 3).c == 0
    with pytest.raises(KmdistError, match="--channel-axis"):
        axes_of((5, 100, 6), [None] * 3)


@pytest.mark.parametrize(
    ("n_channels", "dtype"), [(3, "uint8"), (8, "uint16"), (12, "float64"), (48, "float32")]
)
def test_default_blocks_fit_small_workers_whatever_the_channels(
    n_channels: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of 1.5 GiB and a scene of 20,000² px, of which a header is enough."""
    path = tmp_path / "a.zarr"
    zarr.create_array(
        path, shape=(20_000, 20_000, n_channels), dtype=dtype, chunks=(1024, 1024, n_channels),
        dimension_names=["y", "x", "c"],
    )  # fmt: skip
    monkeypatch.setattr("kmdist.recipes.segment.rasters.require_stored", lambda *_: None)
    options = SegmentOptions(k=8)
    fit = RECIPE.fit(str(path), options)
    pool = ThreadPool(1)
    try:
        workload = fit.open(options, pool, lambda _: None)
    finally:
        pool.close()
    slots = SimpleNamespace(threads=2, processes=3, memory_bytes=int(0.9 * 2 * 1.5 * 2**30))
    planned = outline(workload, fit.wanted, shared=True, label=True, keep=False)
    assert budget_of(planned, slots).fits
