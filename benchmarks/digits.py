"""Digits: what the walk-throughs published beside what kmdist reaches, and time against peers.

    python -m benchmarks digits reproduce [--seeds 20]   OpenCV's walk-through and kmdist's presets
    python -m benchmarks digits accuracy [--seeds 5]     landmark and refined, train and test
    python -m benchmarks digits time                     against scikit-learn, each on its own

Data lie in ``../shared/data`` or where ``KMDIST_DATA`` points.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.public_data import DATA, TEST, TRAIN

SHEET: dict[str, Any] = {
    "images": DATA / "digits" / "digits.png",
    "cell": (20, 20),
    "labels": "rows",
}
PUBLISHED = {"raw": 0.5480, "deskew": 0.7092}
SWEEP = (10, 16, 36, 64, 144, 256)
WALK_THROUGH = {"init": "random", "n_init": 10, "max_iter": 10}


def main(argv: list[str]) -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(prog="benchmarks digits", description=__doc__)
    parser.add_argument("what", choices=["reproduce", "accuracy", "time"])
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--part", default="", help="only what has this in its name")
    chosen = parser.parse_args(argv)
    if chosen.what == "reproduce":
        reproduce(chosen.seeds or 20, chosen.part)
    elif chosen.what == "accuracy":
        accuracy(chosen.seeds or 5, chosen.part)
    else:
        from benchmarks.digits_time import timing

        timing(chosen.part)


def _say(name: str, values: list[float], note: str = "") -> None:
    a = np.array(values)
    digits = 1 if a.max() > 100 else 4
    extent = f"{a.min():.{digits}f} … {a.max():.{digits}f}"
    line = f"{name:48s} mean {a.mean():.{digits}f}  range {extent}  n = {len(a)}"
    print(f"{line}  {note}", flush=True)


def _opencv(images: np.ndarray, classes: np.ndarray, seed: int) -> float:
    """Accuracy as the walk-through reached it: cv2.kmeans, one-to-one map."""
    import cv2

    from kmdist.recipes.digits.scores import score_labels

    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    rows = images.reshape(len(images), -1).astype(np.float32)
    _, labels, _ = cv2.kmeans(rows, 10, None, stop, 10, cv2.KMEANS_RANDOM_CENTERS)
    return score_labels(labels.ravel(), classes).accuracy_hungarian


def reproduce(seeds: int, part: str = "") -> None:
    """The walk-throughs' figures, by their own means and by kmdist's presets of the same name."""
    from kmdist.recipes.digits.features import deskew_tutorial
    from kmdist.recipes.digits.recipe import digits
    from kmdist.recipes.digits.stacks import open_stack

    sheet, _ = open_stack(SHEET["images"], cell=SHEET["cell"], labels="rows")
    test, _ = open_stack(TEST)
    for title, stack, options in (
        ("digits.png", sheet, SHEET),
        ("MNIST test 10,000", test, {"images": TEST}),
    ):
        if part not in title:
            continue
        images, classes = stack.read(0, stack.n), stack.classes
        if classes is None:
            raise SystemExit(f"{title}: no labels")
        for preset, prepared in (("raw", images), ("deskew", deskew_tutorial(images))):
            note = f"published {PUBLISHED[preset]:.4f}" if stack is sheet else ""
            found = [_opencv(prepared, classes, seed) for seed in range(seeds)]
            _say(f"{title} {preset}, cv2.kmeans", found, note)
            ours = []
            for seed in range(seeds):
                run = digits(**options, preset=preset, k=10, seed=seed, **WALK_THROUGH)
                ours.append(run.attributes["scores"]["accuracy_hungarian"])
            _say(f"{title} {preset}, kmdist", ours, note)
    if part in "sweep":
        sweep(seeds)


def sweep(seeds: int) -> None:
    """MNIST's pixels for several k: MiniBatchKMeans as the walk-through ran it, and kmdist."""
    from sklearn.cluster import MiniBatchKMeans

    from kmdist.recipes.digits.recipe import digits
    from kmdist.recipes.digits.scores import score_labels
    from kmdist.recipes.digits.stacks import open_stack

    train, _ = open_stack(TRAIN)
    rows = train.read(0, train.n).reshape(train.n, -1) / np.float32(255)
    classes = np.asarray(train.classes)
    figures = ("inertia", "homogeneity", "accuracy_majority")
    found: dict[tuple[str, int, str], list[float]] = {}
    for seed in range(seeds):
        runs = digits(TRAIN, preset="raw", k=SWEEP, test=TEST, seed=seed).runs
        for k in SWEEP:
            peer = MiniBatchKMeans(k, random_state=seed).fit(rows)
            scored = score_labels(peer.labels_, classes)
            theirs = {"inertia": float(peer.inertia_)}
            theirs |= {name: getattr(scored, name) for name in figures[1:]}
            ours = {"inertia": float(runs[k].inertia or 0.0)} | runs[k].attributes["scores"]
            for name, values in (("MiniBatchKMeans", theirs), ("kmdist", ours)):
                for figure in figures:
                    found.setdefault((name, k, figure), []).append(values[figure])
            held = runs[k].attributes["scores_test"]["accuracy_majority"]
            found.setdefault(("kmdist", k, "test accuracy_majority"), []).append(held)
    for (name, k, figure), values in sorted(found.items(), key=lambda item: item[0][::2]):
        _say(f"MNIST raw, k = {k}, {name}, {figure}", values)


def accuracy(seeds: int, part: str = "") -> None:
    """One-to-one accuracy of the landmark presets; MNIST test with the map of train."""
    from kmdist.recipes.digits.recipe import digits
    from kmdist.recipes.digits.scores import score_labels
    from kmdist.recipes.digits.stacks import open_stack

    classes = open_stack(TRAIN)[0].classes
    for preset in ("landmark", "refined"):
        if part not in preset:
            continue
        found = [
            digits(**SHEET, preset=preset, seed=s).attributes["scores"]["accuracy_hungarian"]
            for s in range(seeds)
        ]
        _say(f"digits.png {preset}", found)
        every, rest, held = [], [], []
        for seed in range(seeds):
            run = digits(TRAIN, preset=preset, seed=seed, test=TEST)
            every.append(run.attributes["scores"]["accuracy_hungarian"])
            held.append(run.attributes["scores_test"]["accuracy_hungarian"])
            labels = run.labels()[10_000:]
            rest.append(score_labels(labels, classes[10_000:]).accuracy_hungarian)
        _say(f"MNIST 60,000 {preset}", every)
        _say(f"MNIST train without the first 10,000 {preset}", rest)
        _say(f"MNIST test {preset}", held)
    if part not in "wide":
        return
    wide = digits(TRAIN, preset="gradient", k=256, test=TEST)
    print(f"K = 256 majority map on test {wide.attributes['scores_test']['accuracy_majority']:.4f}")
    sample = digits("sample:digits").attributes["scores"]["accuracy_hungarian"]
    print(f"sample:digits {sample:.4f}")
