"""The textons of tiles of large images: found once, saved, and read by later passes."""

from collections.abc import Sequence

from kmdist.errors import ImageError
from kmdist.images import Rejection
from kmdist.job.job import Job
from kmdist.job.label_maps import lost_images
from kmdist.job.work import Work
from kmdist.recipes.texture.measuring import read_moduli, texton_map_of
from kmdist.recipes.texture.model import Textons, Texture
from kmdist.recipes.texture.tiles import map_name
from kmdist.store import RunWriter


def map_textons(
    job: Job, work: Sequence[Work], textons: Textons, texture: Texture, name: str = ""
) -> None:
    """Find the textons of all tiles of large images: one more pass over these.

    Images of which a tile cannot be read are rejected.
    """
    pass_name = f"maps{name}"
    tiled = [one for one in work if not one.pieces[0].whole]
    done = job.writer.done(pass_name)
    for rejected in done.values():
        job.reject([Rejection(*row) for row in rejected or ()])
    left = [one for one in tiled if one.index not in done]

    def finished(position: int, rejected: Sequence[Rejection]) -> None:
        job.reject(rejected)
        rows = [[r.image, r.code, r.reason] for r in rejected]
        job.writer.mark_done(pass_name, left[position].index, rows)

    def lost(position: int, error: BaseException) -> list[Rejection]:
        return list(lost_images(left[position], error))

    if left:
        job.over_blocks(
            "maps",
            save_texton_maps,
            left,
            job.pool.broadcast(textons),
            texture,
            job.writer,
            pixels=[one.pixels for one in left],
            done_before=len(tiled) - len(left),
            on_done=finished,
            on_failure=lost,
        )


def save_texton_maps(
    task: Work, textons: Textons, texture: Texture, writer: RunWriter
) -> list[Rejection]:
    """Find the textons of a tile's own cells and save them, 1/16 byte a pixel; a task."""
    for piece in task.pieces:
        try:
            found = texton_map_of(read_moduli(texture, piece), textons)
        except ImageError as error:
            return [Rejection(piece.source.name, error.code, error.reason)]
        writer.save_state(map_name(piece.source.name, piece.window), {"textons": found})
    return []
