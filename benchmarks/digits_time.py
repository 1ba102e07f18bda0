"""Digits against scikit-learn, from the gz files to the result, each in a process of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.peers import Measured, measure
from benchmarks.public_data import TEST, TRAIN

SEEDS = 5
"""Of k-means with 10 clusters: one fit takes from 80 to 190 iterations, as the seed has it."""
PEERS = (
    ("scikit-learn MiniBatchKMeans(256), pixels", "peer", {"name": "MiniBatchKMeans", "k": 256}),
    ("scikit-learn KMeans(10), pixels", "peer", {"name": "KMeans", "k": 10, "seeds": SEEDS}),
    ("scikit-learn KMeans(256), pixels", "peer", {"name": "KMeans", "k": 256}),
    ("kmdist raw, k = 10", "ours", {"preset": "raw", "k": 10, "seeds": SEEDS}),
    ("kmdist raw, k = 256", "ours", {"preset": "raw", "k": 256}),
    ("kmdist landmark, k = 10", "ours", {"preset": "landmark", "k": 10}),
    ("kmdist refined, k = 10", "ours", {"preset": "refined", "k": 10}),
)


def timing(part: str = "") -> None:
    """CPU and wall seconds on one core, peak memory, accuracy and inertia of each.

    Several seeds run one after the other; times and figures are then their means.
    """
    found: dict[str, Measured] = {}
    for title, function, arguments in PEERS:
        if not any(one in title for one in part.split(";")):
            continue
        one = measure(f"benchmarks.digits_time:{function}", arguments)
        n = int(arguments.get("seeds", 1))
        one = replace(one, cpu_s=one.cpu_s / n, elapsed_s=one.elapsed_s / n)
        found[title] = one
        majority, hungarian, inertia = one.result
        print(
            f"{title:44s} {n} × {one.cpu_s:7.1f} s CPU {one.elapsed_s:7.1f} s  "
            f"peak {one.peak_bytes / 1e6:6.0f} MB  majority {majority:.4f}  "
            f"one-to-one {hungarian:.4f}  inertia {inertia:.0f}",
            flush=True,
        )
    for k in (10, 256):
        if f"kmdist raw, k = {k}" not in found:
            continue
        theirs, ours = found[f"scikit-learn KMeans({k}), pixels"], found[f"kmdist raw, k = {k}"]
        print(
            f"raw, k = {k}: {theirs.cpu_s / ours.cpu_s:.2f} × as fast as scikit-learn's KMeans, "
            f"inertia {ours.result[2] / theirs.result[2]:.5f} of its"
        )
    if part:
        return
    mini = found["scikit-learn MiniBatchKMeans(256), pixels"]
    for preset in ("landmark", "refined"):
        cpu_s = found[f"kmdist {preset}, k = 10"].cpu_s
        print(f"{preset}: {cpu_s / mini.cpu_s:.2f} × the CPU time of MiniBatchKMeans(256)")


def _mean(results: list[list[float]]) -> list[float]:
    return [float(value) for value in np.mean(results, axis=0)]


def peer(name: str, k: int, seeds: int = 1) -> Callable[[], Callable[[], Any]]:
    """scikit-learn on pixels, as the walk-through runs it."""
    from sklearn import cluster

    from kmdist.recipes.digits.scores import score_labels
    from kmdist.recipes.digits.stacks import open_stack

    options: dict[str, Any] = {"n_init": 1} if name == "KMeans" else {}

    def fit(seed: int) -> tuple[Any, Any]:
        stack, _ = open_stack(TRAIN)
        rows = stack.read(0, stack.n).reshape(stack.n, -1) / np.float32(255)
        return stack, getattr(cluster, name)(k, random_state=seed, **options).fit(rows)

    def run() -> Callable[[], Any]:
        fits = [fit(seed) for seed in range(seeds)]

        def result(stack: Any, model: Any) -> list[float]:
            rows = stack.read(0, stack.n).reshape(stack.n, -1) / np.float32(255)
            scored = score_labels(model.labels_, np.asarray(stack.classes))
            centres = model.cluster_centers_.astype(np.float64)
            inertia = sum(
                float(((part - centres[labels]) ** 2).sum())
                for part, labels in zip(
                    np.array_split(rows, 60), np.array_split(model.labels_, 60), strict=True
                )
            )
            return [scored.accuracy_majority, scored.accuracy_hungarian, inertia]

        return lambda: _mean([result(*one) for one in fits])

    return run


def ours(preset: str, k: int, seeds: int = 1) -> Callable[[], Callable[[], Any]]:
    """A kmdist job, the run written included; its kernels are compiled, or loaded, before."""
    from kmdist.recipes.digits.recipe import digits

    digits(TEST, preset=preset, k=k, workers=1)

    def run() -> Callable[[], Any]:
        fits = [digits(TRAIN, preset=preset, k=k, workers=1, seed=seed) for seed in range(seeds)]

        def result() -> list[float]:
            scores = [one.attributes["scores"] for one in fits]
            names = ("accuracy_majority", "accuracy_hungarian")
            return _mean(
                [
                    [*(own[name] for name in names), float(one.inertia or 0.0)]
                    for own, one in zip(scores, fits, strict=True)
                ]
            )

        return result

    return run
