"""Fitting and labelling in memory, one thread, against other k-means and palette programs."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Measured, measure
from benchmarks.public_data import DATA

PEERS = ["sklearn", "sklearnex", "faiss", "opencv"]
_ITERATIONS = 6

Outcome = Callable[[], dict[str, Any]]
Run = Callable[[], Outcome]


def main(argv: list[str]) -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quantize_fit", description=__doc__)
    parser.add_argument("-k", default="8,16,256", help="palette sizes of the fits")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", choices=("fits", "single", "all"), default="all")
    options = parser.parse_args(argv)
    if options.part != "single":
        compare_fits(
            [int(k) for k in options.k.split(",")], options.peers.split(","), options.repeats
        )
    if options.part != "fits":
        compare_single_images(options.repeats)


def compare_fits(sizes: list[int], peers: list[str], repeats: int = 3) -> None:
    """Six iterations and labels of 9.4 Mpx from the same initial centres."""
    with tempfile.TemporaryDirectory() as folder:
        pixels_path = Path(folder, "pixels.npy")
        pixels = kodak_and_mirror()
        np.save(pixels_path, pixels)
        for name, sample in (("kodak and mirror", pixels), ("photos, JPEG", photos())):
            print(
                f"{name}: {len(sample) / 1e6:.2f} Mpx, {share_of_distinct(sample):.2%} of the "
                "pixels are distinct colours"
            )
        for k in sizes:
            init_path = Path(folder, f"init{k}.npy")
            np.save(init_path, _initial_centres(pixels, k))
            print(f"\nk = {k}, {_ITERATIONS} iterations and labels, CPU seconds, best of {repeats}")
            arguments = {"pixels": str(pixels_path), "init": str(init_path)}
            ours = measure("benchmarks.quantize_fit:kmdist_fit", arguments, repeats)
            _print_fit("kmdist", ours, ours)
            for peer in peers:
                function = f"benchmarks.quantize_fit:{peer}_fit"
                times = repeats if k < 64 else 1
                _print_fit(peer, measure(function, arguments, times), ours)


def compare_single_images(repeats: int = 3) -> None:
    """Each Kodak image by itself, k = 256, no dither, against libimagequant at default speed."""
    print("\nSingle photographs, k = 256: squared error per pixel, CPU ms (wall ms)")
    totals = np.zeros((2, 2))
    paths = sorted((DATA / "kodak").glob("*.png"))
    for path in paths:
        arguments = {"path": str(path)}
        peers = [
            measure(f"benchmarks.quantize_fit:{name}_single", arguments, repeats)
            for name in ("kmdist", "libimagequant")
        ]
        totals += [[peer.result["error"], peer.cpu_s] for peer in peers]
        print(
            f"{path.name:14}"
            + "   ".join(
                f"{name} {peer.result['error']:6.2f} {peer.cpu_s * 1e3:6.1f} "
                f"({peer.elapsed_s * 1e3:6.1f})"
                for name, peer in zip(("kmdist", "libimagequant"), peers, strict=True)
            )
        )
    error, seconds = totals[0] / totals[1]
    means = totals / len(paths)
    print(
        f"mean          kmdist {means[0, 0]:6.2f} {means[0, 1] * 1e3:6.1f}   "
        f"libimagequant {means[1, 0]:6.2f} {means[1, 1] * 1e3:6.1f}\n"
        f"error ratio {error:.3f} (wanted <= 0.95), time ratio {seconds:.2f} (wanted <= 1.2)"
    )


def kodak_and_mirror() -> np.ndarray:
    """Pixels (n, 3) uint8 of the 12 Kodak images and their mirror images."""
    images = [read_rgb(path) for path in sorted((DATA / "kodak").glob("*.png"))]
    return np.concatenate([x.reshape(-1, 3) for im in images for x in (im, im[:, ::-1])])


def photos() -> np.ndarray:
    """Pixels (n, 3) uint8 of the JPEG photographs."""
    return np.concatenate([read_rgb(p).reshape(-1, 3) for p in (DATA / "photos").glob("*.jpg")])


def read_rgb(path: Path) -> np.ndarray:
    """One image (y, x, 3) uint8."""
    import cv2

    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def share_of_distinct(pixels: np.ndarray) -> float:
    """Distinct colours per pixel."""
    from kmdist.recipes.quantize.kernels.histogram import count_colors

    return len(count_colors(pixels)) / len(pixels)


def _initial_centres(pixels: np.ndarray, k: int) -> np.ndarray:
    """Random colours, off the integer grid: ties there would send every peer its own way."""
    random = np.random.default_rng(k)
    colors = np.unique(pixels[:: len(pixels) // 100_000], axis=0)
    chosen = random.choice(colors, k, replace=False)
    return (chosen + random.uniform(-0.5, 0.5, chosen.shape)).astype(np.float32)


def _print_fit(name: str, peer: Measured, ours: Measured) -> None:
    print(
        f"{name:10} {peer.cpu_s:8.3f} s (wall {peer.elapsed_s:8.3f})"
        f"  {peer.cpu_s / ours.cpu_s:6.1f} x"
        f"  peak {peer.peak_bytes / 2**20:4.0f} MiB, input {peer.input_bytes / 2**20:4.0f} MiB"
        f"  squared error per pixel {peer.result['error']:.6f}"
        f"  centres off by at most {peer.result['off']:.2g}"
    )


def _fit_outcome(
    pixels: np.ndarray, init: np.ndarray, centres: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Error of labels and centres, and the centres' distance from six exact iterations."""
    centres = np.asarray(centres, np.float64)
    error = 0.0
    for start in range(0, len(pixels), 1 << 20):
        part = slice(start, start + (1 << 20))
        error += float(((pixels[part] - centres[labels[part].ravel()]) ** 2).sum())
    exact = _exact_centres(pixels, init)
    return {"error": error / len(pixels), "off": float(np.abs(centres - exact).max())}


def _exact_centres(pixels: np.ndarray, init: np.ndarray) -> np.ndarray:
    """Lloyd's iterations in float64 on the distinct colours, without any shortcut."""
    codes = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, counts = np.unique(codes, return_counts=True)
    colors = np.column_stack([values >> 16, values >> 8 & 255, values & 255]).astype(np.float64)
    centres = init.astype(np.float64)
    for _ in range(_ITERATIONS):
        nearest = np.full(len(colors), np.inf)
        labels = np.zeros(len(colors), np.intp)
        for j, centre in enumerate(centres):
            distance = ((colors - centre) ** 2).sum(axis=1)
            closer = distance < nearest
            nearest[closer], labels[closer] = distance[closer], j
        mass = np.bincount(labels, counts, len(centres))
        for axis in range(3):
            centres[:, axis] = np.bincount(labels, counts * colors[:, axis], len(centres)) / mass
    return centres


def kmdist_fit(pixels: str, init: str) -> Run:
    """Count, six iterations, label table, look-up."""
    from kmdist.recipes.quantize.kernels.histogram import count_colors
    from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table
    from kmdist.recipes.quantize.palette import ColorCloud, PaletteOptions, fit_palette

    image, centres = np.load(pixels), np.load(init)
    options = PaletteOptions(init=centres, max_iter=_ITERATIONS, tol=0)

    def run(image: np.ndarray = image) -> Outcome:
        colors = count_colors(image)
        palette = fit_palette(ColorCloud(colors), len(centres), options)
        with borrowed_table(colors.codes, palette.labels) as table:
            labels = apply_table(image, table)
        return lambda: _kmdist_outcome(image, centres, palette, labels)

    run(image[:: len(image) // 2000])  # compiles
    return run


def _kmdist_outcome(image: np.ndarray, init: np.ndarray, palette: Any, labels: np.ndarray) -> Any:
    order = np.lexsort(palette.state.centroids.T)
    exact = _exact_centres(image, init)
    return _fit_outcome(image, init, palette.state.centroids, labels) | {
        "off": float(np.abs(palette.state.centroids[order] - exact[np.lexsort(exact.T)]).max())
    }


def sklearn_fit(pixels: str, init: str) -> Run:
    """scikit-learn's Lloyd, float32 input converted beforehand."""
    from sklearn.cluster import KMeans

    image, centres = np.load(pixels), np.load(init)
    points = image.astype(np.float32)

    def run() -> Outcome:
        model = KMeans(
            len(centres), init=centres, n_init=1, max_iter=_ITERATIONS, tol=0, algorithm="lloyd"
        ).fit(points)
        return lambda: _fit_outcome(image, centres, model.cluster_centers_, model.labels_)

    return run


def sklearnex_fit(pixels: str, init: str) -> Run:
    """scikit-learn-intelex in scikit-learn's place."""
    from sklearnex import patch_sklearn

    patch_sklearn(verbose=False)
    return sklearn_fit(pixels, init)


def faiss_fit(pixels: str, init: str) -> Run:
    """faiss on all rows (its default would take a sample)."""
    import faiss

    faiss.omp_set_num_threads(1)
    image, centres = np.load(pixels), np.load(init)
    points = image.astype(np.float32)

    def run() -> Outcome:
        model = faiss.Kmeans(
            3, len(centres), niter=_ITERATIONS, max_points_per_centroid=len(points)
        )
        model.train(points, init_centroids=centres)
        labels = model.assign(points)[1]
        return lambda: _fit_outcome(image, centres, model.centroids, labels)

    return run


def opencv_fit(pixels: str, init: str) -> Run:
    """OpenCV from initial labels, which are computed outside the clock."""
    import cv2

    cv2.setNumThreads(1)
    image, centres = np.load(pixels), np.load(init)
    points = image.astype(np.float32)
    nearest = np.full(len(points), np.inf, np.float32)
    initial = np.zeros((len(points), 1), np.int32)
    for j, centre in enumerate(centres):
        distance = ((points - centre) ** 2).sum(axis=1)
        closer = distance < nearest
        nearest[closer], initial[closer] = distance[closer], j
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, _ITERATIONS, 0)

    def run() -> Outcome:
        _, labels, found = cv2.kmeans(
            points, len(centres), initial.copy(), criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS
        )
        return lambda: _fit_outcome(image, centres, found, labels)

    return run


def kmdist_single(path: str) -> Run:
    """The default fit of one decoded image, its labels and displayable palette."""
    from kmdist.recipes.quantize.kernels.histogram import count_colors
    from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table
    from kmdist.recipes.quantize.palette import ColorCloud, fit_palette

    image = read_rgb(Path(path))

    def run() -> Outcome:
        colors = count_colors(image)
        palette = fit_palette(ColorCloud(colors), 256)
        with borrowed_table(colors.codes, palette.labels) as table:
            labels = apply_table(image, table)
        return lambda: {"error": _squared_error(image, palette.palette[labels])}

    run()  # compiles, and touches the tables that a folder of images reuses
    return run


def libimagequant_single(path: str) -> Run:
    """libimagequant at its default speed, without dither."""
    import libimagequant

    image = read_rgb(Path(path))
    height, width = image.shape[:2]
    rgba = np.dstack([image, np.full((height, width), 255, np.uint8)]).tobytes()

    def run() -> Outcome:
        settings = libimagequant.Attr()
        settings.max_colors = 256
        source = settings.create_rgba(rgba, width, height, 0)
        result = source.quantize(settings)
        result.dithering_level = 0
        labels = result.remap_image(source)
        palette = np.array([(c.r, c.g, c.b) for c in result.get_palette()], np.uint8)
        indices = np.frombuffer(bytes(labels), np.uint8).reshape(height, width)
        return lambda: {"error": _squared_error(image, palette[indices])}

    run()
    return run


def _squared_error(image: np.ndarray, shown: np.ndarray) -> float:
    return float(((image.astype(np.int64) - shown) ** 2).sum() / image.shape[0] / image.shape[1])
