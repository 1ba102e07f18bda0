"""
Handwritten digits: raw, deskewed, by landmarks
===============================================

The walk-through clusters pixels, and deskews them first. ``landmark`` measures strokes, clusters
finely and joins clusters that many images lie between. Rows of the confusion matrices are
clusters, columns digits.
"""

import matplotlib.pyplot as plt

import kmdist

presets = ("raw", "deskew", "landmark")
runs = {preset: kmdist.digits("sample:digits", k=10, preset=preset) for preset in presets}

figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for axes, (preset, run) in zip(panels, runs.items(), strict=True):
    table = run.array("confusion")
    axes.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"{preset}: {run.attributes['scores']['accuracy_hungarian']:.1%}")
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("digit")
panels[0].set_ylabel("cluster")

# %%
# The mean image of each cluster of the last.

figure, panels = plt.subplots(1, 10, figsize=(9, 1.2), layout="constrained")
for axes, mean in zip(panels, runs["landmark"].array("means"), strict=True):
    axes.imshow(mean, cmap="gray")
    axes.set_axis_off()
