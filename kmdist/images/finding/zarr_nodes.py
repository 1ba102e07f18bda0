"""What a Zarr node is, told from its metadata alone."""

import json
import os
from pathlib import Path
from typing import Any

METADATA = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Zarr group or array, of format 2 or 3."""
    return any(os.path.isfile(os.path.join(path, name)) for name in METADATA)


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a Zarr node is an array or an OME-Zarr image: not a run of kmdist, or a mere group.

    Reads the node's own metadata alone: a folder of thousands of nodes is searched at the speed
    of its files.
    """
    node = _metadata(Path(path))
    return node.get("node_type") == "array" or bool(_multiscales(node.get("attributes", {})))


def _metadata(path: Path) -> dict[str, Any]:
    """``node_type`` and ``attributes``, as format 3 names them; empty if there are none to read."""
    try:
        if (path / "zarr.json").is_file():
            node = json.loads((path / "zarr.json").read_text("utf-8"))
            return node if isinstance(node, dict) else {}
        attributes = path / ".zattrs"
        read = json.loads(attributes.read_text("utf-8")) if attributes.is_file() else {}
        kind = "array" if (path / ".zarray").is_file() else "group"
        return {"node_type": kind, "attributes": read}
    except (OSError, ValueError):
        return {}


def _multiscales(attributes: Any) -> Any:
    """The ``multiscales`` of OME-Zarr 0.5, or of 0.4 and before."""
    if not isinstance(attributes, dict):
        return None
    ome = attributes.get("ome", attributes)
    return ome.get("multiscales") if isinstance(ome, dict) else None
