"""The texture recipe end to end: right, complete, the same bytes however it runs."""

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from sklearn.metrics import adjusted_rand_score

import kmdist
from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.filters import gabor, grey, leung_malik, tile_responses, with_halo
from kmdist.filters.features import TextureFeatures
from kmdist.images import ImageSource
from kmdist.job.progress import Event
from kmdist.recipes.predict import predict
from kmdist.recipes.texture.model import PRESET_NAMES, Texture, TextureModel
from kmdist.store import Run
from tests.support.dask_processes import DaskProcesses
from tests.support.runs import bytes_of
from tests.support.textures import mosaic, tiled_tiff


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """Three pictures of several sizes, one with transparent rows."""
    folder = tmp_path / "textures"
    folder.mkdir()
    for number, (height, width) in enumerate([(150, 203), (96, 130)]):
        cv2.imwrite(str(folder / f"{number}.png"), mosaic(height, width, number))
    alpha = np.dstack([mosaic(88, 101, 7), np.full((88, 101), 255, np.uint8)])
    alpha[:30, :, 3] = 0
    cv2.imwrite(str(folder / "alpha.png"), alpha)
    return folder


def rgb_of(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return np.ascontiguousarray(pixels[..., 2::-1])


def check_figures(run: Run, names: list[str], folder: Path, fit: object) -> None:
    """Counts, mean colours and order of clusters against the label maps and the pixels."""
    k = run.k or 0
    sums, counts = np.zeros((k, 3)), np.zeros(k, np.int64)
    for name in names:
        labels, rgb = run.labels(name)[:], rgb_of(folder / name)
        inside = labels < k
        counts += np.bincount(labels[inside], minlength=k)
        for channel in range(3):
            sums[:, channel] += np.bincount(
                labels[inside], rgb[..., channel][inside].astype(float), minlength=k
            )
    np.testing.assert_array_equal(counts, fit.counts)  # type: ignore[attr-defined]
    assert np.all(np.diff(counts) <= 0)
    colors = sums / np.maximum(counts, 1)[:, None]
    assert np.abs(colors - fit.palette).max() <= 0.5 + 1e-9  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_every_preset_finds_the_quarters(preset: str, textures: Path, tmp_path: Path) -> None:
    options = {} if preset == "tutorial" else {"pool_px": 8}
    run = kmdist.texture(textures / "0.png", tmp_path / "r.zarr", k=4, preset=preset, **options)
    image = run.image("0.png")
    check_figures(run, ["0.png"], textures, image)
    y, x = np.mgrid[:150, :203]
    truth = 2 * (y >= 67.5) + (x >= 121.8)
    agreement = adjusted_rand_score(truth.ravel(), run.labels("0.png")[:].ravel())
    assert agreement < 0.4 if preset == "tutorial" else agreement > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in PRESET_NAMES if name != "tutorial"])
def test_twelve_bits_in_sixteen_are_measured_as_they_are(preset: str, tmp_path: Path) -> None:
    y, x = np.mgrid[:150, :203]
    truth = (2 * (y >= 67.5) + (x >= 121.8)).ravel()
    narrow = (948 + mosaic(150, 203)[..., 1].astype(np.uint16) * 160 // 255).astype(np.uint16)
    agreement = []
    for name, image in {"narrow.tif": narrow, "spread.tif": narrow * 16}.items():
        tifffile.imwrite(tmp_path / name, image)
        run = kmdist.texture(
            tmp_path / name, tmp_path / f"{name}.zarr", k=4, preset=preset, pool_px=8
        )
        agreement.append(adjusted_rand_score(truth, run.labels(name)[:].ravel()))
        shared = kmdist.texture(
            tmp_path / name, tmp_path / "s.zarr", k=4, preset=preset, pool_px=8, shared=True,
            overwrite=True
        )  # fmt: skip
        np.testing.assert_array_equal(shared.predict(image), shared.labels(name)[:])
    assert min(agreement) > 0.75
    assert abs(agreement[0] - agreement[1]) < 0.05


def test_each_image_is_its_own_fit(textures: Path, tmp_path: Path) -> None:
    run = kmdist.texture(textures, tmp_path / "r.zarr", k=4, preset="gabor")
    assert run.attributes["per_image"]
    assert run.palette is None
    for name in run.images:
        alone = kmdist.texture(textures / name, tmp_path / f"{name}.zarr", k=4, preset="gabor")
        assert run.labels(name)[:].tobytes() == alone.labels(name)[:].tobytes()
        np.testing.assert_array_equal(run.image(name).centroids, alone.image(name).centroids)
        check_figures(run, [name], textures, run.image(name))
    assert run.inertia == pytest.approx(sum(run.image(n).inertia for n in run.images))
    masked = run.labels("alpha.png")[:]
    assert (masked[:30] == 255).all()
    assert (masked[30:] < 4).all()
    assert run.unclustered == 255
    with pytest.raises(UsageError, match="--shared"):
        run.predict(textures / "0.png")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["textons", "color+texture", "tutorial"])
def test_shared_clusters_label_new_images(preset: str, textures: Path, tmp_path: Path) -> None:
    run = kmdist.texture(textures, tmp_path / "r.zarr", k=4, preset=preset, shared=True)
    check_figures(run, list(run.images), textures, run)
    assert run.unclustered == 255
    model = TextureModel.of_run(run)
    assert model.centroids.shape[0] == 4
    again = predict(run, textures, tmp_path / "again.zarr")
    assert again.recipe == "texture"
    assert again.inertia == pytest.approx(run.inertia, rel=1e-12)
    np.testing.assert_array_equal(again.counts, run.counts)
    for name in run.images:
        expected = run.labels(name)[:]
        np.testing.assert_array_equal(again.labels(name)[:], expected)
        np.testing.assert_array_equal(run.predict(textures / name), expected)


@pytest.mark.slow
def test_shared_clusters_come_by_pixels_and_not_by_fitted_rows(
    textures: Path, tmp_path: Path
) -> None:
    tiled_tiff(textures / "tiles.tif", 300, 1300)
    options = {"preset": "gabor", "shared": True, "sample": 0.02, "block_mpx": 0.3}
    run = kmdist.texture(textures, tmp_path / "r.zarr", k=(6, 9), **options)
    for k, one in run.runs.items():
        found = {name: one.labels(name)[:] for name in one.images}
        counts = sum(np.bincount(labels.ravel(), minlength=256) for labels in found.values())
        np.testing.assert_array_equal(counts[:k], one.counts)
        assert np.all(np.diff(one.counts) <= 0)
        for name, labels in found.items():
            np.testing.assert_array_equal(one.predict(textures / name), labels)


def test_inertia_is_that_of_the_projected_rows(textures: Path, tmp_path: Path) -> None:
    """Recomputed in float64 from stored arrays and 8-bit responses, which need no pooling."""
    run = kmdist.texture(textures / "1.png", tmp_path / "r.zarr", k=3, preset="tutorial")
    image, labels = run.image("1.png"), run.labels("1.png")[:]
    from kmdist.filters import tutorial

    rgb = rgb_of(textures / "1.png")
    rows = tutorial.tile_rows(rgb, (0, 0, *labels.shape), labels.shape).astype(np.float64)
    expected = ((rows - image.centroids.astype(np.float64)[labels]) ** 2).sum()
    assert image.inertia == pytest.approx(expected, rel=1e-9)


def test_several_k_share_the_passes(textures: Path, tmp_path: Path) -> None:
    for shared in (False, True):
        run = kmdist.texture(
            textures, tmp_path / f"{shared}.zarr", k=(2, 4), preset="gabor", shared=shared
        )
        for k in (2, 4):
            alone = kmdist.texture(
                textures, tmp_path / f"{shared}{k}.zarr", k=k, preset="gabor", shared=shared
            )
            for name in alone.images:
                np.testing.assert_array_equal(run.runs[k].labels(name)[:], alone.labels(name)[:])


def test_k_is_chosen_from_a_range(textures: Path, tmp_path: Path) -> None:
    run = kmdist.texture(textures, tmp_path / "r.zarr", k="2..5", preset="gabor", shared=True)
    assert run.k in (2, 3, 4, 5)
    assert {row["k"] for row in run.attributes["selection"]["scores"]} == {2, 3, 4, 5}


def test_a_sample_is_fitted_and_everything_labelled(textures: Path, tmp_path: Path) -> None:
    full = kmdist.texture(textures, tmp_path / "a.zarr", k=3, preset="gabor", shared=True)
    part = kmdist.texture(
        textures, tmp_path / "b.zarr", k=3, preset="gabor", shared=True, sample=0.3
    )
    assert part.counts.sum() == full.counts.sum()
    assert part.inertia <= 1.3 * full.inertia
    with pytest.raises(KmdistError, match="larger sample=/--sample"):
        kmdist.texture(textures, tmp_path / "c.zarr", k=3, preset="gabor", shared=True, sample=1e-9)


@pytest.mark.slow
def test_tiles_of_a_tiff_give_the_labels_of_the_whole(tmp_path: Path) -> None:
    source = tiled_tiff(tmp_path / "big.tif", 1300, 2100)
    for preset, shared in (("gabor", False), ("textons", True)):
        keep = "never" if shared else "auto"
        whole = kmdist.texture(
            source, tmp_path / f"{preset}w.zarr", k=4, preset=preset, shared=True, block_mpx=16
        )
        tiled = kmdist.texture(
            source,
            tmp_path / f"{preset}t.zarr",
            k=4,
            preset=preset,
            shared=shared,
            block_mpx=1.05,
            keep_pixels=keep,
        )
        different = whole.labels("big.tif")[:] != tiled.labels("big.tif")[:]
        assert not different.any()
        fit = tiled if shared else tiled.image("big.tif")
        # Sums over tiles are added in another order: the last bit of the projection may differ.
        assert fit.inertia == pytest.approx(whole.inertia, rel=1e-8)
        np.testing.assert_allclose(fit.centroids, whole.centroids, atol=1e-6)
        np.testing.assert_array_equal(fit.counts, whole.counts)
        assert tiled.image("big.tif").levels == whole.image("big.tif").levels
        level = tiled.image("big.tif").levels - 1
        np.testing.assert_array_equal(
            tiled.labels("big.tif", level)[:], whole.labels("big.tif", level)[:]
        )


@pytest.mark.slow
def test_a_tile_that_cannot_be_read_spoils_its_image_alone(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled_tiff(textures / "big.tif", 600, 1100)
    import kmdist.job.work as job

    real = job.decode

    def fails(source: ImageSource, window: object = None) -> np.ndarray:
        if source.name == "big.tif" and getattr(window, "x0", 0) > 0:
            from kmdist.errors import ImageError

            raise ImageError("truncated", "a tile is missing")
        return real(source, window)  # type: ignore[arg-type]

    without = kmdist.texture(
        [textures / "0.png", textures / "1.png", textures / "alpha.png"],
        tmp_path / "without.zarr",
        k=3,
        preset="gabor",
        shared=True,
        block_mpx=0.4,
    )
    monkeypatch.setattr(job, "decode", fails)
    for shared in (True, False):
        run = kmdist.texture(
            textures,
            tmp_path / f"{shared}.zarr",
            k=3,
            preset="gabor",
            shared=shared,
            block_mpx=0.4,
            keep_pixels="never",
            worker_kind="thread",
        )
        assert [one["image"] for one in run.attributes["rejected"]] == ["big.tif"]
        assert sorted(run.images) == ["0.png", "1.png", "alpha.png"]
        if shared:
            assert run.inertia == pytest.approx(without.inertia, rel=1e-2)


@pytest.mark.parametrize(
    ("preset", "shared"), [("gabor", True), ("textons", True), ("textons", False)]
)
def test_the_same_bytes_however_it_runs(
    preset: str, shared: bool, textures: Path, tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    def run(name: str, **options: object) -> dict[str, str]:
        result = kmdist.texture(
            textures,
            tmp_path / f"{name}.zarr",
            k=4,
            preset=preset,
            shared=shared,
            block_mpx=0.02,
            **options,  # type: ignore[arg-type]
        )
        return bytes_of(Path(result.path))

    expected = run("one", workers=1, keep_pixels="never")
    assert expected
    assert run("two", workers=2, keep_pixels="always") == expected
    assert run("four", workers=4, worker_kind="thread") == expected
    assert run("remote", scheduler=dask_cluster.address) == expected


@pytest.mark.parametrize("keep_pixels", ["always", "never"])
@pytest.mark.parametrize("stage", ["features", "label"])
def test_a_worker_killed_in_a_pass_changes_nothing(
    stage: str,
    keep_pixels: str,
    tmp_path: Path,
    dask_processes: DaskProcesses,
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(64):
        cv2.imwrite(str(folder / f"{number:02d}.png"), mosaic(60, 70, number))
    options = {"k": 3, "preset": "gabor", "shared": True, "block_mpx": 0.01}
    expected = kmdist.texture(folder, tmp_path / "calm.zarr", workers=1, **options)
    killed = threading.Event()

    def watch(event: object) -> None:
        if not isinstance(event, Event) or event.stage != stage or killed.is_set():
            return
        if event.done >= 20 and event.total - event.done >= 10:
            killed.set()
            dask_processes.workers[0].kill()
            dask_processes.workers.append(dask_processes.add_worker())

    result = kmdist.texture(
        folder,
        tmp_path / "killed.zarr",
        scheduler=dask_processes.address,
        keep_pixels=keep_pixels,
        watch=watch,
        **options,
    )
    assert killed.is_set()
    assert bytes_of(Path(result.path)) == bytes_of(Path(expected.path))


class StoppedError(Exception):
    """Raised by a watcher, as Ctrl-C would be."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["textons", "features", "label", "texture"])
def test_resume_gives_the_same_bytes_and_does_not_repeat(stage: str, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(24):
        cv2.imwrite(str(folder / f"{number:02d}.png"), mosaic(60, 70, number))
    options = {
        "k": 3,
        "preset": "textons",
        "shared": stage != "texture",
        "block_mpx": 0.01,
        "workers": 1,
        "worker_kind": "thread",
        "keep_pixels": "never",
    }
    expected = kmdist.texture(folder, tmp_path / "calm.zarr", **options)

    def stop(event: object) -> None:
        if isinstance(event, Event) and event.stage == stage and event.done == 20:
            raise StoppedError

    with pytest.raises(StoppedError):
        kmdist.texture(folder, tmp_path / "r.zarr", watch=stop, **options)
    assert not (tmp_path / "r.zarr").exists()
    first: list[int] = []

    def count(event: object) -> None:
        if isinstance(event, Event) and event.stage == stage:
            first.append(event.done)

    result = kmdist.texture(folder, tmp_path / "r.zarr", resume=True, watch=count, **options)
    assert bytes_of(Path(result.path)) == bytes_of(Path(expected.path))
    if stage in ("label", "texture"):
        assert len(first) <= 5


def bad_inputs(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "one.png"), np.full((1, 1, 3), 77, np.uint8))
    cv2.imwrite(str(folder / "strip.png"), rng.integers(0, 256, (3, 5000, 3), dtype=np.uint8))
    cv2.imwrite(str(folder / "constant.png"), np.full((80, 90, 3), 130, np.uint8))
    deep = mosaic(70, 80).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "eight.png"), mosaic(70, 80))
    rgba = np.dstack([mosaic(70, 80), np.full((70, 80), 255, np.uint8)])
    rgba[:, :40, 3] = 0
    cv2.imwrite(str(folder / "rgba.png"), rgba)
    rgba[..., 3] = 0
    cv2.imwrite(str(folder / "nothing.png"), rgba)
    (folder / "broken.png").write_bytes((folder / "deep.png").read_bytes()[:500])


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_odd_images(preset: str, tmp_path: Path) -> None:
    bad_inputs(tmp_path / "odd")
    run = kmdist.texture(tmp_path / "odd", tmp_path / "r.zarr", k=6, preset=preset)
    rejected = {one["image"]: one["code"] for one in run.attributes["rejected"]}
    assert rejected.keys() == {"broken.png", "nothing.png"}
    assert rejected["nothing.png"] == "transparent"
    assert len(run.image("one.png").centroids) == 1
    assert len(run.image("constant.png").centroids) == 1
    assert (run.labels("constant.png")[:] == 0).all()
    assert run.image("constant.png").attributes["warning"]
    assert run.labels("strip.png").shape == (3, 5000)
    assert 1 <= run.labels("strip.png")[:].max() < 6
    np.testing.assert_array_equal(run.labels("deep.png")[:], run.labels("eight.png")[:])
    masked = run.labels("rgba.png")[:]
    assert (masked[:, :40] == 255).all()
    assert (masked[:, 40:] < 6).all()
    shared = kmdist.texture(
        tmp_path / "odd", tmp_path / "s.zarr", k=6, preset=preset, shared=True, block_mpx=0.02
    )
    assert (shared.labels("nothing.png")[:] == 255).all()
    assert {one["image"] for one in shared.attributes["rejected"]} == {"broken.png"}
    with pytest.raises(KmdistError, match=r"broken\.png"):
        kmdist.texture(tmp_path / "odd", tmp_path / "t.zarr", preset=preset, strict=True)


@pytest.mark.slow
def test_responses_are_kept(textures: Path, tmp_path: Path) -> None:
    for shared in (False, True):
        run = kmdist.texture(
            textures / "0.png",
            tmp_path / f"{shared}.zarr",
            k=3,
            preset="lm",
            shared=shared,
            keep_responses=True,
        )
        stored = run.image("0.png").array("responses")
        values = grey(rgb_of(textures / "0.png"), white=255)
        bank = leung_malik()
        expected = tile_responses(with_halo(values, (0, 0, *values.shape), 24), bank)
        np.testing.assert_allclose(stored, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "1 to 4096"),
        ({"preset": "haralick"}, "'haralick' is not one of textons, gabor, lm"),
        ({"sample": 0.0}, "not a valid number above 0 to 1"),
        ({"preset": "gabor", "scales": "published"}, "preset lm"),
        ({"preset": "textons", "color_weight": 1.0}, "neither textons"),
        ({"preset": "tutorial", "pool_px": 3.0}, "nothing to set"),
        ({"init": "best"}, "k-means"),
        ({"n_init": 0}, "not a valid integer from 1"),
        ({"textons": 300}, "not a valid integer from 0 to 256"),
    ],
)
def test_wrong_usage_is_said_plainly(
    options: dict[str, object], message: str, textures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        kmdist.texture(textures, tmp_path / "r.zarr", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.zarr"))


def test_the_command_line(textures: Path, tmp_path: Path) -> None:
    def kmdist_does(*words: object) -> str:
        done = CliRunner().invoke(cli, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    run = tmp_path / "r.zarr"
    said = kmdist_does("texture", textures, "-o", run, "-k", 3, "--shared", "--preset", "gabor")
    assert "k = 3" in said
    assert "texture" in kmdist_does("info", run)
    kmdist_does("view", run, "0.png", "-o", tmp_path / "view.png", "--overlay", 0.5)
    kmdist_does("view", run, "-o", tmp_path / "sheet.png")
    kmdist_does("export", run, tmp_path / "exported")
    exported = cv2.imread(str(tmp_path / "exported" / "0.png"))[..., ::-1]
    opened = kmdist.open_run(run)
    np.testing.assert_array_equal(exported, opened.palette[opened.labels("0.png")[:]])
    kmdist_does("extract", run, "0.png", "--at", "30,30", "-o", tmp_path / "cut.png")
    cut = cv2.imread(str(tmp_path / "cut.png"), cv2.IMREAD_UNCHANGED)
    labels = opened.labels("0.png")[:]
    np.testing.assert_array_equal(cut[..., 3] > 0, labels == labels[30, 30])
    kmdist_does("predict", run, textures / "1.png", "-o", tmp_path / "p.zarr")
    predicted = kmdist.open_run(tmp_path / "p.zarr")
    np.testing.assert_array_equal(predicted.labels("1.png")[:], opened.labels("1.png")[:])
    for bank in ("lm", "gabor"):
        kmdist_does("filters", bank, "-o", tmp_path / f"{bank}.png")
        assert cv2.imread(str(tmp_path / f"{bank}.png")).std() > 10
    failed = CliRunner().invoke(
        cli, ["filters", "gabor", "--variant", "tutorial", "-o", str(tmp_path / "x.png")]
    )
    assert failed.exit_code == 2


def striped(path: Path, height: int, n_textures: int) -> None:
    """Stripes side by side that differ by the width of their bars alone."""
    x = np.arange(400)
    bars = [128 + 100 * np.sign(np.sin(x * pitch)) for pitch in (0.35, 0.9, 2.2, 0.15)]
    row = np.concatenate([bar[: 400 // n_textures] for bar in bars[:n_textures]])
    cv2.imwrite(str(path), np.tile(row, (height, 1)).astype(np.uint8))


def test_each_image_gets_as_many_clusters_as_it_needs(tmp_path: Path) -> None:
    folder = tmp_path / "stripes"
    folder.mkdir()
    for n in (2, 4):
        striped(folder / f"{n}.png", 160, n)
    options = {"preset": "gabor", "pool_px": 6.0, "workers": 1}
    said: list[object] = []
    run = kmdist.texture(folder, tmp_path / "r.zarr", k="auto", watch=said.append, **options)
    chosen = {n: len(run.image(f"{n}.png").centroids) for n in (2, 4)}
    assert chosen[2] < chosen[4]
    assert run.k == chosen[4]
    span = f"k by image: {chosen[2]} to {chosen[4]}"
    assert [one.text for one in said if getattr(one, "text", "").startswith("k by")] == [span]
    selection = run.image("4.png").attributes["selection"]
    inertia = {one["k"]: one["inertia"] for one in selection["scores"]}
    ks = sorted(inertia)
    left = [inertia[k + 1] / inertia[k] for k in ks[:-1]]
    assert selection["k"] == chosen[4] == ks[-2]
    assert left[-1] > 0.85
    assert all(share <= 0.85 for share in left[:-1])
    alone = kmdist.texture(folder, tmp_path / "a.zarr", k=chosen[4], n_init=3, **options)
    np.testing.assert_array_equal(alone.labels("4.png")[:], run.labels("4.png")[:])
    bounded = kmdist.texture(folder, tmp_path / "b.zarr", k="2..3", **options)
    assert len(bounded.image("4.png").centroids) == 3


@pytest.mark.slow
def test_images_larger_than_a_block_choose_the_same(tmp_path: Path) -> None:
    tiled_tiff(tmp_path / "a.tif", 1100, 1300)
    runs = [
        kmdist.texture(tmp_path / "a.tif", tmp_path / f"{mpx}.zarr", k="auto", block_mpx=mpx)
        for mpx in (1.2, 4.0)
    ]
    labels = [run.labels("a.tif")[:] for run in runs]
    np.testing.assert_array_equal(*labels)
    assert len({len(run.image("a.tif").centroids) for run in runs}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "preset"),
    [
        (("color",), "color+texture"),
        (("grey",), "textons"),
        (("grey as color",), "textons"),
        (("color", "grey"), "color+texture"),
        (("color", "grey", "grey as color"), "textons"),
    ],
)
def test_preset_goes_by_colour(kinds: tuple[str, ...], preset: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, kind in enumerate(kinds):
        pixels = mosaic(80, 90, number)
        if kind != "color":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        if kind == "grey as color":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        cv2.imwrite(str(folder / f"{number}.jpg"), pixels)
    said: list[str] = []
    for shared in (False, True):
        run = kmdist.texture(
            folder,
            tmp_path / f"{shared}.zarr",
            k=2,
            shared=shared,
            watch=lambda event: said.append(str(event)),
        )
        assert run.attributes["features"]["preset"] == preset
        assert run.parameters["features"]["preset"] == preset
    assert sum(f"--preset {preset}" in line for line in said) == 2
    named = kmdist.texture(folder, tmp_path / "named.zarr", k=2, preset=preset)
    for name in named.images:
        np.testing.assert_array_equal(
            named.labels(name)[:], kmdist.open_run(tmp_path / "False.zarr").labels(name)[:]
        )


@pytest.mark.parametrize(
    ("options", "preset"),
    [({"textons": 8}, "textons"), ({"color_weight": 0.5}, "color+texture")],
)
def test_a_number_of_a_preset_names_it(
    options: dict[str, float], preset: str, textures: Path, tmp_path: Path
) -> None:
    run = kmdist.texture(textures, tmp_path / "r.zarr", k=2, **options)  # type: ignore[arg-type]
    assert run.parameters["features"]["preset"] == preset


def test_runs_keep_the_numbers_of_their_preset() -> None:
    texture = Texture("color+texture", options=(("pool_px", 9.0),))
    assert Texture.of_record(json.loads(json.dumps(texture.record()))) == texture
    record = {"preset": "color+texture", "scales": "linear", "options": {"pool_px": 9.0}}
    earlier = Texture.of_record(record).features  # of a run that was written before they changed
    assert earlier == TextureFeatures(gabor(), pool_px=9.0, color_weight=0.8, color_px=8.0)
    better = {**texture.record()["numbers"], "edge": 7.0}
    assert Texture.of_record({**texture.record(), "numbers": better}).features.edge == 7.0
