"""A run is written by its writer, from several threads and processes, and read by `open_run`."""

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.store import Run, RunWriter, open_run
from kmdist.store.format import labels as labels_module
from kmdist.store.format import layout
from tests.support.writing import released

RANDOM = np.random.default_rng(7)
PALETTE = RANDOM.integers(0, 256, (5, 3), dtype=np.uint8)


def new_writer(path, images=("a.png",), **options):
    request = {"recipe": "quantize", "parameters": {"k": 5}, "fingerprint": "f", **options}
    return RunWriter.create(path, images=images, **request)


def some_labels(height, width, k=5):
    return RANDOM.integers(0, k, (height, width), dtype=np.uint8)


@pytest.fixture
def small_sizes(monkeypatch):
    """Chunks of 8, shards of 32 above 64, so that the whole machinery runs on small images."""
    monkeypatch.setattr(layout, "CHUNK", 8)
    monkeypatch.setattr(layout, "SHARD", 32)
    monkeypatch.setattr(layout, "SHARD_ABOVE", 64)
    monkeypatch.setattr(labels_module, "SHARD", 32)
    monkeypatch.setattr(labels_module, "CHUNK", 8)


def test_a_shared_run(tmp_path):
    path = tmp_path / "r.zarr"
    maps = {"a.png": some_labels(3, 4), "sub/é.jpg": some_labels(700, 900)}
    centroids = PALETTE.astype(np.float32)
    history = np.array([[9.0, 1.0, 0.0], [4.0, 0.0, 0.0]])
    with released(new_writer(path, images=maps)) as writer:
        for name, labels in maps.items():
            marker = writer.write_labels(
                name, labels, k=5, palette=PALETTE, source=f"/photos/{name}", attributes={"dpi": 72}
            )
            assert marker is None
        writer.write_array("centroids", centroids, ("cluster", "feature"))
        writer.write_array("palette", PALETTE, ("cluster", "channel"))
        writer.write_array("counts", np.arange(5), ("cluster",))
        writer.write_array("history", history, ("iteration", "measure"))
        assert not path.exists()
        writer.publish({"k": 5, "inertia": np.float64(4.0), "seed": 0, "stop_reason": "tol"})
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    assert not (path / "state").exists()

    run = open_run(path)
    assert isinstance(run, Run)
    assert (run.recipe, run.k, run.inertia, run.n_iter, run.unclustered) == (
        "quantize",
        5,
        4.0,
        2,
        None,
    )
    assert run.attributes["state"] == "complete"
    assert run.attributes["schema"] == 1
    assert run.attributes["versions"]["zarr"]
    assert run.parameters == {"k": 5}
    for found, expected in (
        (run.centroids, centroids),
        (run.palette, PALETTE),
        (run.counts, np.arange(5)),
        (run.history, history),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert list(run.images) == ["a.png", "sub/é.jpg"]
    for name, labels in maps.items():
        np.testing.assert_array_equal(run.labels(name)[...], labels)
        image = run.image(name)
        assert (image.height, image.width) == labels.shape
        assert (image.name, image.source) == (name, f"/photos/{name}")
        assert image.attributes["dpi"] == 72
        assert image.centroids is None
        assert image.levels == 1
    assert run.image("/photos/a.png").name == "a.png"
    info = json.loads(json.dumps(run.info()))
    assert info["images"][1] == {"name": "sub/é.jpg", "width": 900, "height": 700}
    assert info["palette"] == PALETTE.tolist()
    assert info["counts"] == [0, 1, 2, 3, 4]
    assert info["fingerprint"] == "f"
    assert set(info["scores"]) == {
        "accuracy_hungarian",
        "accuracy_majority",
        "nmi",
        "ari",
        "homogeneity",
        "completeness",
    }


def test_a_run_fitted_per_image(tmp_path):
    with released(new_writer(tmp_path / "r.zarr", images=["a.png", "b.png"])) as writer:
        for name in ("a.png", "b.png"):
            writer.write_labels(name, some_labels(9, 9), k=5, attributes={"inertia": 2.0})
            group = writer.image_group(name)
            writer.write_array(f"{group}/centroids", PALETTE / 2, ("cluster", "feature"))
            writer.write_array(f"{group}/counts", np.ones(5, np.int64), ("cluster",))
        writer.publish({"k": 5})
    run = open_run(tmp_path / "r.zarr")
    assert run.centroids is None
    assert run.info()["counts"] is None
    image = run.image("b.png")
    np.testing.assert_array_equal(image.centroids, PALETTE / 2)
    assert image.counts.sum() == 5
    assert image.inertia == 2.0


def test_several_k(tmp_path):
    path = tmp_path / "r.zarr"
    labels = some_labels(20, 30, k=2)
    with released(new_writer(path)) as writer:
        for k in (2, 5):
            writer.write_labels("a.png", labels, k=k, prefix=f"k{k}")
            writer.write_array(f"k{k}/centroids", PALETTE[:k], ("cluster", "feature"))
        writer.write_array("k", [2, 5], ("k",))
        writer.publish({"seed": 3}, runs={2: {"inertia": 9}, 5: {"inertia": 4}})
    run = open_run(path)
    assert run.k is None
    assert list(run.runs) == [2, 5]
    assert [one.inertia for one in run.runs.values()] == [9, 4]
    assert not run.images
    assert [each["k"] for each in run.info()["runs"].values()] == [2, 5]
    single = open_run(path / "k5")
    assert single.k == 5
    assert single.runs == {}
    assert single.attributes["seed"] == 3
    np.testing.assert_array_equal(single.labels("a.png")[...], labels)
    with pytest.raises(UsageError, match="holds k2, k5"):
        open_run(path / "k7")


def test_labels_of_items(tmp_path):
    with released(new_writer(tmp_path / "r.zarr", images=())) as writer:
        spec = writer.create_array(
            "labels", (1000,), "uint8", chunks=(128,), dimension_names=("item",)
        )
        values = RANDOM.integers(0, 5, 1000, dtype=np.uint8)
        for start in range(0, 1000, 256):
            writer.write_region(spec, (start,), values[start : start + 256])
        with pytest.raises(ValueError, match="whole chunks"):
            writer.write_region(spec, (64,), values[:128])
        writer.publish({"k": 5})
    run = open_run(tmp_path / "r.zarr")
    np.testing.assert_array_equal(run.labels()[...], values)
    assert list(run.images) == []
    assert run.info()["images"] == []


@pytest.mark.parametrize(("k", "marker"), [(5, 255), (256, 65535)])
def test_unclustered_pixels_carry_the_marker(tmp_path, k, marker):
    mask = np.zeros((30, 40), dtype=bool)
    mask[::3] = True
    labels = some_labels(30, 40)
    kept = labels.copy()
    labels[mask] = 250
    before = labels.copy()
    with released(new_writer(tmp_path / "r.zarr", images=["a", "b", "c"])) as writer:
        assert writer.write_labels("a", labels, k=k, unclustered=mask) == marker
        assert writer.write_labels("b", kept, k=k, unclustered=np.zeros_like(mask)) is None
        assert writer.write_labels("c", kept, k=k, marked=True) == marker
        writer.publish({"k": k, "unclustered": marker})
    np.testing.assert_array_equal(labels, before)
    run = open_run(tmp_path / "r.zarr")
    stored = run.labels("a")[...]
    assert stored.dtype == np.min_scalar_type(marker)
    np.testing.assert_array_equal(stored == marker, mask)
    np.testing.assert_array_equal(stored[~mask], kept[~mask])
    assert run.labels("a").fill_value == marker
    assert run.image("a").unclustered == marker
    assert run.image("b").unclustered is None
    assert run.labels("b").dtype == np.uint8
    assert run.unclustered == marker
    group = json.loads((tmp_path / "r.zarr/images/a/labels/kmeans/zarr.json").read_text())
    last = group["attributes"]["ome"]["image-label"]["colors"][-1]
    assert last == {"label-value": marker, "rgba": [0, 0, 0, 0]}


def test_pyramids_are_nearest(tmp_path):
    labels = some_labels(1500, 2100)
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        writer.write_labels("a.png", labels, k=5)
        writer.publish({"k": 5})
    image = open_run(tmp_path / "r.zarr").image("a.png")
    assert image.levels == 3
    for level in range(3):
        step = 2**level
        np.testing.assert_array_equal(image.labels(level)[...], labels[::step, ::step])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (8, 9), (61, 40), (65, 3), (100, 131), (3, 200)])
@pytest.mark.parametrize("marked", [False, True])
def test_windows_make_the_same_files_as_the_whole(tmp_path, small_sizes, shape, marked):
    labels = some_labels(*shape)
    mask = labels == 4 if marked else None
    with released(new_writer(tmp_path / "r.zarr", images=["whole", "parts"])) as writer:
        writer.write_labels("whole", labels, k=5, unclustered=mask, marked=marked)
        described = writer.open_labels("parts", shape, k=5, marked=marked)
        worker = pickle.loads(pickle.dumps(writer))

        def write(window):
            y0, x0, y1, x1 = window
            part = None if mask is None else mask[y0:y1, x0:x1]
            worker.write_label_window(described, y0, x0, labels[y0:y1, x0:x1], part)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, described.windows(0)))
            for level in range(1, len(described.levels)):
                windows = described.windows(level)
                list(
                    pool.map(
                        lambda w, n=level: worker.write_pyramid_window(described, n, w), windows
                    )
                )
        writer.publish({"k": 5})
    images = tmp_path / "r.zarr/images"
    whole, parts = (
        {
            p.relative_to(images / name): p.read_bytes()
            for p in (images / name).rglob("*")
            if p.is_file() and "c" in p.parts
        }
        for name in ("whole", "parts")
    )
    assert whole == parts
    run = open_run(tmp_path / "r.zarr")
    expected = labels if mask is None else np.where(mask, 255, labels)
    image = run.image("parts")
    for level in range(image.levels):
        step = 2**level
        np.testing.assert_array_equal(image.labels(level)[...], expected[::step, ::step])
    assert (image.labels().shards is not None) == (max(shape) > 64)


def test_a_task_does_not_carry_the_command_line(tmp_path):
    files = [f"photographs/of/a/long/journey/{i:06}.jpg" for i in range(20_000)]
    command = ["kmdist", "quantize", *files, "-o", "r.zarr"]
    parameters = {"k": 5, "images": files}
    with released(
        new_writer(tmp_path / "r.zarr", parameters=parameters, command=command)
    ) as writer:
        assert len(pickle.dumps(writer)) < 5_000
        assert files[-1] in writer.resume_command


def test_an_image_with_real_shards(tmp_path):
    labels = np.zeros((40, 16_500), dtype=np.uint8)
    labels[:, ::7] = 3
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        described = writer.open_labels("a.png", labels.shape, k=5, marked=False)
        for y0, x0, y1, x1 in described.windows(0):
            writer.write_label_window(described, y0, x0, labels[y0:y1, x0:x1])
        with pytest.raises(ValueError, match="whole shards"):
            writer.write_label_window(described, 0, 1024, labels[:, 1024:2048])
        for level in range(1, len(described.levels)):
            for window in described.windows(level):
                writer.write_pyramid_window(described, level, window)
        writer.publish({"k": 5})
    image = open_run(tmp_path / "r.zarr").image("a.png")
    assert image.labels().shards == (40, 8192)
    assert image.labels().chunks == (40, 1024)
    for level in range(image.levels):
        step = 2**level
        np.testing.assert_array_equal(image.labels(level)[...], labels[::step, ::step])


def test_names_that_differ_in_case_alone(tmp_path):
    names = ["A.png", "a.png", "b.png", "..", "x" * 255, "d/" * 600 + "x.png", "\x00\x01"]
    maps = {name: some_labels(2, 2 + i) for i, name in enumerate(names)}
    with released(new_writer(tmp_path / "r.zarr", images=names)) as writer:
        for name in names:
            writer.write_labels(name, maps[name], k=5)
        writer.publish({"k": 5})
    run = open_run(tmp_path / "r.zarr")
    assert sorted(run.images) == sorted(names)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    for name in names:
        np.testing.assert_array_equal(run.labels(name)[...], maps[name])


@pytest.mark.parametrize("array", [np.float64(2.5), np.zeros((0, 3)), np.array([True, False])])
def test_arrays_of_odd_shapes(tmp_path, array):
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        writer.write_array("odd", array, ("a", "b")[: array.ndim])
        writer.publish({"k": 5})
    run = open_run(tmp_path / "r.zarr")
    found = run.array("odd")
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found, array)
    with pytest.raises(KmdistError, match="no array 'none'"):
        run.lazy("none")


def test_many_images_are_not_consolidated(tmp_path, monkeypatch):
    monkeypatch.setattr("kmdist.store.format.contents.CONSOLIDATE_IMAGES", 3)
    for count in (3, 4):
        names = [f"{i}.png" for i in range(count)]
        path = tmp_path / f"{count}.zarr"
        with released(new_writer(path, images=names)) as writer:
            for name in names:
                writer.write_labels(name, some_labels(2, 2), k=5)
            writer.publish({"k": 5})
        root = json.loads((path / "zarr.json").read_text())
        assert ("consolidated_metadata" in root) == (count == 3)
        assert len(open_run(path).images) == count


def test_states_and_manifests(tmp_path):
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        assert writer.load_state("fit") is None
        assert writer.done("labels") == {}
        arrays = {"centroids": PALETTE, "file": np.float64(1.5), "names": np.array(["a", "b"])}
        writer.save_state("fit", {"old": np.zeros(3)})
        writer.save_state("fit", arrays)
        found = writer.load_state("fit")
        assert list(found) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)
        with pytest.raises(ValueError, match="Python objects"):
            writer.save_state("bad", {"a": np.array([None, {}])})
        writer.mark_done("labels", 3, {"counts": np.array([1, 2])})
        writer.mark_done("labels", 5)
        writer.mark_done("../other pass", 1, "x")
        writer.mark_done("../other pass", np.int64(2))
        assert writer.done("labels") == {3: {"counts": [1, 2]}, 5: None}
        assert writer.done("../other pass") == {1: "x", 2: None}
        writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_manifest_line_is_a_block_not_done(tmp_path):
    writer = new_writer(tmp_path / "r.zarr")
    for index, result in ((0, "a"), (1, "b"), (123, "c")):
        writer.mark_done("p", index, result)
    log = tmp_path / ".r.zarr.partial/state/p.done.jsonl"
    whole = log.read_bytes()
    for cut in range(len(whole)):
        log.write_bytes(whole[:cut])
        before = writer.done("p")
        ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
        assert list(before) == [0, 1, 123][: sum(end <= cut for end in ends)]
        writer.mark_done("p", 7)
        assert writer.done("p") == {**before, 7: None}
    log.write_bytes(b"\x00" * 40 + b"\n" + whole)
    assert list(writer.done("p")) == [0, 1, 123]


def test_a_state_that_a_power_cut_damaged_counts_as_not_saved(tmp_path):
    writer = new_writer(tmp_path / "r.zarr")
    writer.save_state("fit", {"a": np.arange(1.0, 101.0)})
    file = tmp_path / ".r.zarr.partial/state/fit.npz"
    whole = file.read_bytes()
    zeroed = whole[:300] + bytes(200) + whole[500:]
    changed = whole[:300] + b"\x01" + whole[301:]
    for content in (whole[:200], b"", bytes(len(whole)), zeroed, changed, b"\x80\x04N."):
        file.write_bytes(content)
        assert writer.load_state("fit") is None, content


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[5]], {}, r"labels run from 0 to 5; .* 0 to 4"),
        ([[-1]], {}, "from -1"),
        ([[0.0]], {}, "must be integers"),
        ([0], {}, r"must be \(y, x\)"),
        (np.zeros((0, 3), int), {}, "at least one pixel"),
        ([[0]], {"unclustered": np.ones((2, 2), bool)}, r"mask \(2, 2\)"),
        ([[0]], {"unclustered": np.ones((1, 1), bool), "marked": False}, "without a marker"),
        ([[0]], {"palette": PALETTE[:4]}, r"\(5, 3\) uint8"),
        ([[0]], {"palette": PALETTE / 2}, "got .* float64"),
    ],
)
def test_labels_that_cannot_be(tmp_path, labels, options, message):
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        with pytest.raises(ValueError, match=message):
            writer.write_labels("a.png", labels, k=5, **options)
        writer.discard()


def test_label_maps_need_all_names_first(tmp_path):
    with released(new_writer(tmp_path / "r.zarr", images=())) as writer:
        with pytest.raises(ValueError, match="images="):
            writer.write_labels("a.png", [[0]], k=1)
        with pytest.raises(ValueError, match="above the label pyramid"):
            writer.create_array(
                "images/a/responses", (2, 2), "f4", chunks=(2, 2), dimension_names=("y", "x")
            )


def test_writing_touches_no_event_loop(tmp_path):
    before = threading.active_count()
    with released(new_writer(tmp_path / "r.zarr")) as writer:
        writer.write_labels("a.png", some_labels(2000, 1100), k=5)
        assert threading.active_count() == before
        writer.publish({"k": 5})


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "has no zarr.json"),
        ("{", KmdistError, "is damaged"),
        ('{"zarr_format":3,"node_type":"group"}', UsageError, "no run of kmdist"),
        ("[]", UsageError, "no run of kmdist"),
        ('{"attributes":{"kmdist":{"schema":2,"state":"complete"}}}', KmdistError, "Update kmdist"),
        ('{"attributes":{"kmdist":{"schema":1,"state":"running"}}}', KmdistError, "not complete"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content, error, message):
    folder = tmp_path / "r.zarr"
    folder.mkdir()
    if content is not None:
        (folder / "zarr.json").write_text(content)
    with pytest.raises(error, match=message):
        open_run(folder)


def test_paths_that_are_no_run(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        open_run(tmp_path / "none.zarr")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        open_run(tmp_path / "file")
    with pytest.raises(UsageError, match=r"^memory://nowhere/r.zarr: does not exist$"):
        open_run("memory://nowhere/r.zarr")
    writer = new_writer(tmp_path / "r.zarr")
    with pytest.raises(UsageError, match="--resume"):
        open_run(tmp_path / "r.zarr")
    with pytest.raises(KmdistError, match="not complete"):
        open_run(tmp_path / ".r.zarr.partial")
    writer.discard()


def test_an_image_that_is_not_there(tmp_path):
    with released(
        new_writer(tmp_path / "r.zarr", images=["photo1.png", "new\nline.png"])
    ) as writer:
        for name in ("photo1.png", "new\nline.png"):
            writer.write_labels(name, some_labels(2, 2), k=5)
        writer.publish({"k": 5})
    run = open_run(tmp_path / "r.zarr")
    with pytest.raises(UsageError, match=r"similar: photo1.png"):
        run.labels("photo.png")
    with pytest.raises(UsageError, match=r"similar: new\\nline.png"):
        run.labels("newline.png")
    with pytest.raises(UsageError, match="name one"):
        run.labels()
    with pytest.raises(KeyError):
        run.images[""]
