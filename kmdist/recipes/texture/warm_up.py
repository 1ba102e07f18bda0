"""Compile the kernels of a texture job on next to nothing."""

from dataclasses import replace

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.filters import tutorial
from kmdist.filters.features import tile_features, tile_moduli
from kmdist.images import ImageSource, Window
from kmdist.job.work import Piece
from kmdist.recipes.texture.field_labels import color_sums, label_field, row_inertia
from kmdist.recipes.texture.learning import fit_textons, project
from kmdist.recipes.texture.measuring import (
    Field,
    Moduli,
    box_of,
    grid_of,
    measure_textons,
    own_grid_of,
    texton_map_of,
)
from kmdist.recipes.texture.model import Texture, TextureModel
from kmdist.recipes.texture.sampling import Sampling, field_rows, sampled_moduli
from kmdist.recipes.texture.wanted import TextureWanted

SIDE_PX = 40


def exercise_texture_kernels(texture: Texture) -> None:
    """Use every kernel of a texture job once, on 40 × 40 px."""
    source = ImageSource("", "", SIDE_PX, SIDE_PX, channels=3, dtype="uint8", format="")
    piece = Piece(source, Window(0, 0, SIDE_PX, SIDE_PX))
    box = box_of(piece.window)
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    transparent = np.zeros(rgb.shape[:2], bool)
    transparent[0] = True
    sampling = Sampling(1.0, 0)
    textons = None
    if texture.is_tutorial:
        responses = tutorial.tile_rows(rgb, box, (SIDE_PX, SIDE_PX))
        field = Field(piece, responses, rgb, transparent)
    elif texture.has_textons:
        grid = own_grid_of(texture, piece)
        values = tile_moduli(rgb, grid, texture.features)
        moduli = Moduli(piece, values, rgb, transparent)
        sums, sample = sampled_moduli(texture, moduli, sampling)
        textons = fit_textons(texture, sums, sample.rows, 0)
        cells = texton_map_of(moduli, textons)
        field = measure_textons(texture, piece, cells, rgb, transparent)
    else:
        lab = rgb.astype(np.float32) if texture.features.color_weight else None
        values = tile_features(rgb, grid_of(texture, piece), texture.features, lab=lab)
        field = Field(piece, values, rgb, transparent)
    sums, sample = field_rows(texture, field, sampling)
    rows = sample.rows
    projection = project(texture, sums)
    projected = rows if texture.is_tutorial else projection.apply(rows)
    wanted = TextureWanted(texture, (2,), fit=FitOptions(max_iter=2))
    ((clusters, _),) = wanted.fit_all(projected).values()
    model = TextureModel(texture, textons, projection, clusters.centroids)
    labels, row_labels = label_field(texture, field, model.scorer)
    color_sums(field, labels, clusters.k)
    color_sums(replace(field, unclustered=None), labels, clusters.k)
    row_inertia(texture, field, row_labels, projection, clusters.centroids)
