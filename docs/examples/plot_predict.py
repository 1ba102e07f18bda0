"""
New photographs, old palette
============================

A palette that was fitted once labels what comes later: in memory with ``run.predict``, whole
folders with :func:`kmdist.predict`, every night with ``kmdist nightly``.
"""

import matplotlib.pyplot as plt
from skimage import data

import kmdist

run = kmdist.quantize("sample:photos", k=12, include=["coffee.png", "chelsea.png"])
labels = run.predict(data.astronaut())

figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
left.imshow(data.astronaut())
right.imshow(run.palette[labels])
right.set_title("in the colours of a cat and a coffee")
for axes in (left, right):
    axes.set_axis_off()
