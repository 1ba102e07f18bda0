"""Digits against scikit-learn, from the gz files to the result, each in a process of its own."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.digits import TRAIN
from benchmarks.peers import Measured, measure

PEERS = (
    ("scikit-learn MiniBatchKMeans(256), pixels", "peer", {"name": "MiniBatchKMeans", "k": 256}),
    ("scikit-learn KMeans(10), pixels", "peer", {"name": "KMeans", "k": 10}),
    ("scikit-learn KMeans(256), pixels", "peer", {"name": "KMeans", "k": 256}),
    ("kmdist raw, k = 10", "ours", {"preset": "raw", "k": 10}),
    ("kmdist raw, k = 256", "ours", {"preset": "raw", "k": 256}),
    ("kmdist landmark, k = 10", "ours", {"preset": "landmark", "k": 10}),
    ("kmdist refined, k = 10", "ours", {"preset": "refined", "k": 10}),
)


def timing() -> None:
    """CPU and wall seconds on one core, peak memory, accuracy and inertia of each."""
    found: dict[str, Measured] = {}
    for title, function, arguments in PEERS:
        one = measure(f"benchmarks.digits_time:{function}", arguments)
        found[title] = one
        majority, hungarian, inertia = one.result
        print(
            f"{title:44s} {one.cpu_s:7.1f} s CPU {one.elapsed_s:7.1f} s  "
            f"peak {one.peak_bytes / 1e6:6.0f} MB  majority {majority:.4f}  "
            f"one-to-one {hungarian:.4f}  inertia {inertia:.0f}",
            flush=True,
        )
    mini = found["scikit-learn MiniBatchKMeans(256), pixels"]
    for k in (10, 256):
        theirs, ours = found[f"scikit-learn KMeans({k}), pixels"], found[f"kmdist raw, k = {k}"]
        print(
            f"raw, k = {k}: {theirs.cpu_s / ours.cpu_s:.2f} × as fast as scikit-learn's KMeans, "
            f"inertia {ours.result[2] / theirs.result[2]:.5f} of its"
        )
    for preset in ("landmark", "refined"):
        cpu_s = found[f"kmdist {preset}, k = 10"].cpu_s
        print(f"{preset}: {cpu_s / mini.cpu_s:.2f} × the CPU time of MiniBatchKMeans(256)")


def peer(name: str, k: int) -> Callable[[], Callable[[], Any]]:
    """scikit-learn on pixels, as the walk-through runs it."""
    from sklearn import cluster

    from kmdist.scores import score_labels
    from kmdist.stacks import open_stack

    options: dict[str, Any] = {"random_state": 0}
    if name == "KMeans":
        options["n_init"] = 1

    def run() -> Callable[[], Any]:
        stack, _ = open_stack(TRAIN)
        rows = stack.read(0, stack.n).reshape(stack.n, -1) / np.float32(255)
        model = getattr(cluster, name)(k, **options).fit(rows)

        def result() -> Any:
            scored = score_labels(model.labels_, np.asarray(stack.classes))
            centres = model.cluster_centers_.astype(np.float64)
            inertia = sum(
                float(((part - centres[labels]) ** 2).sum())
                for part, labels in zip(
                    np.array_split(rows, 60), np.array_split(model.labels_, 60), strict=True
                )
            )
            return [scored.accuracy_majority, scored.accuracy_hungarian, inertia]

        return result

    return run


def ours(preset: str, k: int) -> Callable[[], Callable[[], Any]]:
    """A kmdist job, the run written included; kernels are compiled or loaded before."""
    from kmdist.recipes.digits import digits

    digits("sample:digits", preset=preset, k=2, workers=1)

    def run() -> Callable[[], Any]:
        done = digits(TRAIN, preset=preset, k=k, workers=1)
        scores = done.attributes["scores"]
        return lambda: [
            scores["accuracy_majority"],
            scores["accuracy_hungarian"],
            float(done.inertia or 0.0),
        ]

    return run
