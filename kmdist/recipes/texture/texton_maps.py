"""The textons of tiles of large images: found once, saved, and read by later passes."""

from collections.abc import Sequence

from kmdist.errors import ImageError
from kmdist.images import Rejection
from kmdist.job.block_pass import BlockPass, LeftOut, writing_stage
from kmdist.job.job import Job
from kmdist.job.work import Work
from kmdist.recipes.texture.measuring import read_moduli, texton_map_of
from kmdist.recipes.texture.model import Textons, Texture
from kmdist.recipes.texture.tiles import map_name
from kmdist.store import RunWriter


def map_textons(
    job: Job, work: Sequence[Work], textons: Textons, texture: Texture, group: str = ""
) -> None:
    """Find the textons of all tiles of large images: one more pass over these.

    Images of which a tile cannot be read are rejected.
    """
    tiled = [one for one in work if one.tile_of is not None]
    shared = job.pool.broadcast(textons)
    BlockPass(job, MAP, group=group).run(tiled, shared, texture, job.writer)


def save_texton_maps(work: Work, textons: Textons, texture: Texture, writer: RunWriter) -> LeftOut:
    """Find the textons of a tile's own cells and save them, 1/16 byte a pixel; a task."""
    for piece in work.pieces:
        try:
            found = texton_map_of(read_moduli(texture, piece), textons)
        except ImageError as error:
            return LeftOut((Rejection(piece.source.name, error.code, error.reason),))
        writer.save_state(map_name(piece.source.name, piece.window), {"textons": found})
    return LeftOut()


MAP = writing_stage("maps", save_texton_maps)
