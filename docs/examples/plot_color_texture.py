"""
Colour and texture together, and the filter bank
================================================

A photograph of things differs in colour and in texture. The bank of Leung and Malik (2001), which
the walk-through convolves with: edges and bars of three scales and six directions, and round
ones.
"""

import matplotlib.pyplot as plt
from skimage import data

import kmdist
from kmdist.filters import leung_malik

run = kmdist.texture("sample:photos", k=4, preset="color+texture", include=["coffee.png"])

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.imshow(data.coffee())
right.imshow(run.labels("coffee.png")[:], cmap="viridis", interpolation="nearest")
for axes in (left, right):
    axes.set_axis_off()

# %%
# The bank: 48 kernels of 49 × 49 pixels, each drawn to its own magnitude.

bank = leung_malik()
figure, panels = plt.subplots(4, 12, figsize=(9, 3.2), layout="constrained")
for axes, kernel in zip(panels.flat, bank.kernels, strict=True):
    limit = abs(kernel).max()
    axes.imshow(kernel, cmap="gray", vmin=-limit, vmax=limit)
    axes.set_axis_off()

# %%
# :func:`kmdist.draw_bank` draws the same to a file; :func:`kmdist.responses` gives its responses
# as a lazy Dask array, of an image of any size.

kmdist.responses(data.coffee(), bank)
