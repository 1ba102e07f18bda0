"""
Segmentation by texture
=======================

Brick, grass and gravel, stretched to one grey: colour tells nothing, texture all. The
walk-through clusters 8-bit responses of filters pixel by pixel (``preset="tutorial"``); kmdist by
default how often textons occur nearby. The adjusted Rand index compares with the truth, which no
clustering sees.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, exposure
from sklearn.metrics import adjusted_rand_score

import kmdist

surfaces = [data.brick(), data.grass(), data.gravel()]
strips = [exposure.equalize_hist(one[:240, :120]) for one in surfaces]
mosaic = np.rint(255 * np.hstack(strips)).astype(np.uint8)
truth = np.repeat([0, 1, 2], 120)[None].repeat(240, axis=0)

folder = Path(tempfile.mkdtemp())
plt.imsave(folder / "mosaic.png", mosaic, cmap="gray")

figure, panels = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
panels[0].imshow(mosaic, cmap="gray")
panels[0].set_title("three surfaces")
for axes, preset in zip(panels[1:], ("tutorial", "gabor", "textons"), strict=True):
    run = kmdist.texture(folder / "mosaic.png", k=3, preset=preset)
    labels = run.labels("mosaic.png")[:]
    score = adjusted_rand_score(truth.ravel(), labels.ravel())
    axes.imshow(labels, cmap="viridis", interpolation="nearest")
    axes.set_title(f"{preset}: {score:.2f}")
for axes in panels:
    axes.set_axis_off()
