"""
Pixels of any channels
======================

:func:`kmdist.segment` clusters channels in their own precision. Here: a photograph with its
blurred copies as further channels, so that a pixel knows its neighbourhood.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, filters

import kmdist

photo = data.astronaut()[:300, 60:380].astype(np.float32) / 255
channels = np.concatenate(
    [photo, *(filters.gaussian(photo, sigma, channel_axis=2) for sigma in (4, 12))], axis=2
).astype(np.float32)
run = kmdist.segment(channels, k=5, scale="standard")
labels = run.labels()[:]

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
left.imshow(photo)
right.imshow(labels, cmap="viridis", interpolation="nearest")
for axes in (left, right):
    axes.set_axis_off()
