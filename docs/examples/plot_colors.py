"""
A photograph in 2, 8, 25 and 100 colours
========================================

The walk-through fits k-means to 1,000 pixels drawn at random; kmdist to the histogram of all,
which is exact. PSNR says how near each comes to the photograph.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image

import kmdist

china = load_sample_image("china.jpg")
pixels = china.reshape(-1, 3)
drawn = np.random.default_rng(0).choice(pixels, 1000, replace=False)


def psnr(shown):
    """In dB, against the photograph."""
    error = np.mean((china.astype(float) - np.asarray(shown).reshape(china.shape)) ** 2)
    return 10 * np.log10(255**2 / error)


run = kmdist.quantize("sample:photos", k=[2, 8, 25, 100], include=["china.jpg"])

figure, panels = plt.subplots(2, 2, figsize=(8, 5.6), layout="constrained")
for axes, (k, one) in zip(panels.flat, run.runs.items(), strict=True):
    shown = one.palette[one.labels("china.jpg")[:]]
    walked = KMeans(k, n_init=1, random_state=0).fit(drawn)
    theirs = np.rint(walked.cluster_centers_)[walked.predict(pixels)]
    axes.imshow(shown)
    axes.set_axis_off()
    axes.set_title(f"k = {k}: {psnr(shown):.2f} dB; walk-through {psnr(theirs):.2f} dB")
