"""Compile the kernels of a texture job on next to nothing."""

import numpy as np

from kmdist.images import ImageSource, Window
from kmdist.recipes.clusters import FitOptions
from kmdist.recipes.job import Piece
from kmdist.recipes.texture_learning import fit_textons, project
from kmdist.recipes.texture_pieces import (
    Sampling,
    color_sums,
    field_rows,
    label_field,
    measure,
    moduli_of,
    row_inertia,
    sampled_moduli,
    texton_map_of,
)
from kmdist.recipes.texture_wanted import TextureWanted
from kmdist.texture_model import Texture, TextureModel

SIDE_PX = 40


def exercise_texture_kernels(texture: Texture) -> None:
    """Use every kernel of a texture job once, on 40 × 40 px."""
    source = ImageSource(
        "", "", SIDE_PX, SIDE_PX, channels=3, dtype="uint8", format="", windowed=False,
        size_bytes=0, mtime_ns=0, pages=1,
    )  # fmt: skip
    piece = Piece(source, Window(0, 0, SIDE_PX, SIDE_PX))
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    sampling = Sampling(1.0, 0)
    textons, cells = None, None
    if not texture.is_tutorial and texture.features.textons:
        moduli = moduli_of(texture, piece, rgb)
        sums, rows = sampled_moduli(texture, piece, moduli, None, sampling)
        textons = fit_textons(texture, sums, rows, 0)
        cells = texton_map_of(moduli, textons)
    transparent = np.zeros(rgb.shape[:2], bool)
    transparent[0] = True
    field = measure(texture, piece, rgb, transparent, cells)
    sums, rows = field_rows(texture, field, sampling)
    projection = project(texture, sums)
    projected = rows if texture.is_tutorial else projection.apply(rows)
    wanted = TextureWanted(texture, (2,), fit=FitOptions(max_iter=2))
    ((clusters, _),) = wanted.fit_all(projected).values()
    model = TextureModel(texture, textons, projection, clusters.centroids)
    labels, row_labels = label_field(texture, field, model.scorer)
    color_sums(field, labels, clusters.k)
    color_sums(measure(texture, piece, rgb, None, cells), labels, clusters.k)
    row_inertia(texture, field, row_labels, projection, clusters.centroids)
