"""New images of characters with the clusters of an earlier run."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.images import Found
from kmdist.job.job import NoUsableImageError
from kmdist.job.progress import Event, Message
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.predict import predict
from kmdist.store import Run
from tests.support.dask_processes import DaskProcesses
from tests.support.runs import bytes_of

SAMPLE = "sample:digits"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("models")
    return {
        preset: digits(SAMPLE, folder / f"{preset}.zarr", preset=preset)
        for preset in ("deskew", "landmark", "refined")
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Images of the sample as files in one folder, one of another size, one truncated."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number, image in enumerate(open_stack(SAMPLE)[0].read(0, 30)):
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    twice = np.kron(open_stack(SAMPLE)[0].read(0, 1)[0], np.ones((2, 2), np.uint8))
    cv2.imwrite(str(folder / "large.png"), twice)
    whole = (folder / "00.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["deskew", "landmark", "refined"])
def test_its_own_images_get_their_labels_back(
    models: dict[str, Run], tmp_path: Path, preset: str
) -> None:
    model = models[preset]
    run = predict(model, SAMPLE, tmp_path / "p.zarr", block_mpx=0.05)
    for name in ("labels", "counts", "centroids", "confusion", "members/nearest"):
        np.testing.assert_array_equal(run.array(name), model.array(name))
    assert run.inertia == pytest.approx(model.inertia, rel=1e-12)
    assert run.attributes["scores"] == model.attributes["scores"]
    assert run.attributes["maps"] == model.attributes["maps"]
    images = open_stack(SAMPLE)[0].read(0, 300)
    np.testing.assert_array_equal(model.predict(images), model.array("labels")[:300])
    as_shares = images.astype(np.float32) / np.float32(255)
    assert np.mean(model.predict(as_shares) == model.array("labels")[:300]) > 0.99


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint16", ">i2"])
def test_the_type_of_an_array_does_not_matter(models: dict[str, Run], dtype: str) -> None:
    images = open_stack(SAMPLE)[0].read(0, 200)
    model = models["refined"]
    np.testing.assert_array_equal(model.predict(images.astype(dtype)), model.predict(images))
    with pytest.raises(UsageError, match="grey levels lie in"):
        model.predict(images.astype(np.int64) - 300)


def test_a_prediction_is_a_model_too(models: dict[str, Run], tmp_path: Path) -> None:
    first = predict(models["landmark"], SAMPLE, tmp_path / "a.zarr")
    predict(first, SAMPLE, tmp_path / "b.zarr")
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")


def test_files_are_named_sized_and_left_out(
    models: dict[str, Run], files: Path, tmp_path: Path
) -> None:
    said: list[Event | Message] = []
    run = predict(models["landmark"], files, tmp_path / "p.zarr", watch=said.append)
    assert run.names == [*(f"{n:02}.png" for n in range(30)), "large.png"]
    labels = run.labels()[:]
    np.testing.assert_array_equal(labels[:30], models["landmark"].array("labels")[:30])
    assert labels[30] == labels[0]
    assert [r["image"] for r in run.attributes["rejected"]] == ["truncated.png"]
    assert any("scaled to fit" in m.text for m in said if isinstance(m, Message))
    assert "scores" not in run.attributes
    found = [Found("night/a.png", str(files / "03.png")), Found("b.png", str(files / "07.png"))]
    named = predict(models["landmark"], found, tmp_path / "n.zarr")
    assert named.names == ["b.png", "night/a.png"]
    np.testing.assert_array_equal(named.labels()[:], labels[[7, 3]])


def test_nothing_usable(models: dict[str, Run], files: Path, tmp_path: Path) -> None:
    with pytest.raises(NoUsableImageError, match="truncated") as caught:
        predict(models["landmark"], [files / "truncated.png"], tmp_path / "p.zarr")
    assert [r.image for r in caught.value.rejections] == ["truncated.png"]
    assert not list(tmp_path.glob("*.zarr"))


def test_one_k_of_several(tmp_path: Path) -> None:
    several = digits(SAMPLE, tmp_path / "m.zarr", preset="gradient", k=(4, 9), max_iter=5)
    with pytest.raises(UsageError, match=r"takes one of: .*k4, .*k9"):
        predict(several, SAMPLE, tmp_path / "p.zarr")
    run = predict(tmp_path / "m.zarr" / "k9", SAMPLE, tmp_path / "p.zarr")
    np.testing.assert_array_equal(run.array("labels"), several.runs[9].array("labels"))


def test_the_same_bytes_on_a_cluster(
    models: dict[str, Run], tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    address = dask_cluster.address
    predict(models["refined"], SAMPLE, tmp_path / "a.zarr", block_mpx=0.05, workers=1)
    predict(models["refined"], SAMPLE, tmp_path / "b.zarr", block_mpx=0.05, scheduler=address)
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")


def test_other_ink_is_said(models: dict[str, Run], tmp_path: Path) -> None:
    images = open_stack(SAMPLE)[0].read(0, 200)
    np.save(tmp_path / "dark.npy", 255 - images)
    said: list[Event | Message] = []
    predict(models["landmark"], tmp_path / "dark.npy", watch=said.append)
    assert any("--polarity" in m.text for m in said if isinstance(m, Message) and m.warning)
    run = predict(models["landmark"], tmp_path / "dark.npy", polarity="dark")
    np.testing.assert_array_equal(run.labels()[:], models["landmark"].array("labels")[:200])


def test_wrong_images(models: dict[str, Run], tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((9, 8, 9), np.uint8))
    with pytest.raises(UsageError, match="9 × 8 px; the fitted ones have 8 × 8"):
        predict(models["landmark"], tmp_path / "wide.npy", tmp_path / "p.zarr")
    np.savez(
        tmp_path / "letters.npz",
        images=open_stack(SAMPLE)[0].read(0, 3),
        labels=np.array(["a", "b", "c"]),
    )
    with pytest.raises(UsageError, match="classes a, b, c do not occur"):
        predict(models["landmark"], tmp_path / "letters.npz", tmp_path / "p.zarr")
    assert not os.path.exists(tmp_path / "p.zarr")


def test_command_line(models: dict[str, Run], tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    arguments = ["predict", str(models["landmark"].path), SAMPLE, "-o", str(out)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "purity" in done.output
    again = CliRunner().invoke(cli, [*arguments, "--resume"])
    assert again.exit_code == 0
    refused = CliRunner().invoke(cli, [*arguments[:-1], "x.zarr", "--cell", "7by"])
    assert refused.exit_code == 2
