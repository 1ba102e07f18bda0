"""What kmdist offers, with types; written by docs/generated_files.py."""

import collections.abc
import pathlib
import typing

import kmdist.job.progress
import kmdist.recipes.quantize.options
import kmdist.recipes.segment.options
from kmdist.job.recipe import Inputs
from kmdist import cluster as cluster
from kmdist import errors as errors
from kmdist import filters as filters
from kmdist import images as images
from kmdist import nightly as nightly
from kmdist.errors import ImageError as ImageError
from kmdist.errors import KmdistError as KmdistError
from kmdist.errors import UsageError as UsageError
from kmdist.estimators.bisecting import BisectingKMeans as BisectingKMeans
from kmdist.estimators.kmeans import KMeans as KMeans
from kmdist.estimators.merging import merge_clusters as merge_clusters
from kmdist.estimators.selection import select_k as select_k
from kmdist.filters.responses import responses as responses
from kmdist.images import open_images as open_images
from kmdist.pictures.export import export as export
from kmdist.pictures.extract import extract as extract
from kmdist.pictures.view import draw_bank as draw_bank
from kmdist.pictures.view import view as view
from kmdist.pages.run_report import report as report
from kmdist.store import Run as Run
from kmdist.store import RunImage as RunImage
from kmdist.store import open_run as open_run

__version__: str

def digits(
    inputs: typing.Any,
    output: str | pathlib.Path | None = ...,
    *,
    k: int | str | collections.abc.Sequence[int] | None = ...,
    preset: typing.Optional[typing.Literal['raw', 'deskew', 'gradient', 'landmark', 'refined']] = ...,
    cell: tuple[int, int] | None = ...,
    labels: str | pathlib.Path | None = ...,
    test: typing.Any = ...,
    test_labels: str | pathlib.Path | None = ...,
    polarity: typing.Literal['auto', 'light', 'dark'] = ...,
    init: typing.Optional[typing.Literal['k-means++', 'k-means||', 'random']] = ...,
    n_init: typing.Optional[int] = ...,
    max_iter: typing.Optional[int] = ...,
    tol: typing.Optional[float] = ...,
    seed: int = ...,
    block_mpx: float = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    strict: bool = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    cluster: str | None = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def merge(
    run: Run | str | pathlib.Path,
    output: str | pathlib.Path | None = ...,
    *,
    clusters: collections.abc.Sequence[collections.abc.Sequence[int]] = ...,
    to: typing.Optional[int] = ...,
    method: typing.Literal['ward', 'spectral'] = ...,
    images: typing.Any = ...,
    cluster_file: str | None = ...,
    block_mpx: float = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def split(
    run: Run | str | pathlib.Path,
    output: str | pathlib.Path | None = ...,
    *,
    cluster: int,
    k: int = ...,
    images: typing.Any = ...,
    cluster_file: str | None = ...,
    seed: int = ...,
    block_mpx: float = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def predict(
    model: Run | str | pathlib.Path,
    inputs: typing.Any,
    output: str | pathlib.Path | None = ...,
    *,
    cell: tuple[int, int] | None = ...,
    labels: str | pathlib.Path | None = ...,
    polarity: typing.Literal['auto', 'light', 'dark'] = ...,
    block_mpx: float = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    max_pixels: int = ...,
    strict: bool = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    cluster: str | None = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def quantize(
    inputs: Inputs,
    output: str | pathlib.Path | None = ...,
    *,
    k: int | str | collections.abc.Sequence[int] | None = ...,
    psnr: typing.Optional[float] = ...,
    shared: bool = ...,
    space: typing.Literal['rgb', 'lab', 'oklab', 'hsv'] = ...,
    metric: typing.Literal['euclidean', 'manhattan'] = ...,
    init: str | pathlib.Path | kmdist.recipes.quantize.options.Colors | collections.abc.Sequence[collections.abc.Sequence[float]] = ...,
    refine: typing.Optional[typing.Literal['breathing']] = ...,
    lock: str | pathlib.Path | kmdist.recipes.quantize.options.Colors | collections.abc.Sequence[collections.abc.Sequence[float]] | None = ...,
    weights: str | pathlib.Path | None = ...,
    alpha: bool = ...,
    background: str = ...,
    n_init: int = ...,
    max_iter: int = ...,
    tol: float = ...,
    fit_only: bool = ...,
    seed: int = ...,
    block_mpx: float = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    max_pixels: int = ...,
    strict: bool = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    cluster: str | None = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def segment(
    inputs: typing.Any,
    output: str | pathlib.Path | None = ...,
    *,
    k: int | str | collections.abc.Sequence[int] | None = ...,
    shared: bool = ...,
    channels: tuple[str, ...] = ...,
    scale: typing.Literal['none', 'standard', 'minmax', 'robust'] = ...,
    weight: tuple[str, ...] = ...,
    components: typing.Optional[int] = ...,
    coordinates: float = ...,
    min_region: int = ...,
    bands: tuple[str, ...] = ...,
    nodata: float | None = ...,
    channel_axis: int | None = ...,
    z: typing.Optional[int] = ...,
    volume: bool = ...,
    t: typing.Optional[int] = ...,
    init: str | pathlib.Path | kmdist.recipes.segment.options.Centers = ...,
    n_init: int = ...,
    max_iter: int = ...,
    tol: float = ...,
    fit_only: bool = ...,
    seed: int = ...,
    block_mpx: float = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    max_pixels: int = ...,
    strict: bool = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    cluster: str | None = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...

def texture(
    inputs: Inputs,
    output: str | pathlib.Path | None = ...,
    *,
    k: int | str | collections.abc.Sequence[int] | None = ...,
    preset: typing.Optional[typing.Literal['textons', 'gabor', 'lm', 'color+texture', 'tutorial']] = ...,
    shared: bool = ...,
    sample: typing.Optional[float] = ...,
    scales: typing.Literal['linear', 'published'] = ...,
    pool_px: typing.Optional[float] = ...,
    whiten: typing.Optional[int] = ...,
    textons: typing.Optional[int] = ...,
    color_weight: typing.Optional[float] = ...,
    keep_responses: bool = ...,
    init: typing.Literal['k-means++', 'k-means||', 'random'] = ...,
    block_mpx: float = ...,
    n_init: int = ...,
    max_iter: int = ...,
    tol: float = ...,
    fit_only: bool = ...,
    seed: int = ...,
    keep_pixels: typing.Literal['auto', 'always', 'never'] = ...,
    include: collections.abc.Sequence[str] = ...,
    exclude: collections.abc.Sequence[str] = ...,
    max_pixels: int = ...,
    strict: bool = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    workers: typing.Optional[int] = ...,
    worker_kind: typing.Literal['auto', 'thread', 'process'] = ...,
    cluster: str | None = ...,
    scheduler: str | None = ...,
    client: typing.Any = ...,
    trust: collections.abc.Sequence[str] = ...,
    insecure: bool = ...,
    watch: collections.abc.Callable[[kmdist.job.progress.Event | kmdist.job.progress.Message], None] | None = ...,
    progress: bool | None = ...,
    command: collections.abc.Sequence[str] = ...,
) -> Run: ...
