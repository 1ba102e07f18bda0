"""
A face from its background, and a photograph compressed
=======================================================

The walk-through picks the cluster of the face by hand, and compresses by keeping 5 … 20 colours.
Here the cluster is that of one pixel of the face, cut out by :func:`kmdist.extract`; bytes are
those of an indexed PNG.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import kmdist

folder = Path(tempfile.mkdtemp())
run = kmdist.quantize("sample:photos", k=[4, 5, 10, 15, 20], include=["astronaut.png"])
cut = kmdist.extract(run.runs[4], "astronaut.png", folder / "face.png", at=[(225, 120)])

figure, axes = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
axes.imshow(plt.imread(cut.path))
axes.set_title(f"cluster {cut.clusters[0]}: {cut.n_kept / cut.n_pixels:.0%} of the pixels")
axes.set_axis_off()

# %%
# Colours, bytes and quality.

rows = kmdist.export(run, folder / "pictures")
for row in rows:
    print(f"{row.k:3d} colours {row.bytes:8,} bytes  {row.psnr_db:5.2f} dB  SSIM {row.ssim:.3f}")
print(f"    original {rows[0].original_bytes:8,} bytes")

# %%

figure, panels = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axes, k in zip(panels, (5, 10, 15, 20), strict=True):
    axes.imshow(plt.imread(folder / f"pictures/k{k}/astronaut.png"))
    axes.set_title(f"{k} colours")
    axes.set_axis_off()
