"""
Palettes in sRGB, Lab and Oklab
===============================

k-means spends colours where they lower squared distances. In a space that is even to the eye it
spends them otherwise than in sRGB; PSNR, which is of sRGB, is then lower by construction.
"""

import matplotlib.pyplot as plt

import kmdist

figure, panels = plt.subplots(2, 3, figsize=(9, 4.6), layout="constrained", height_ratios=[5, 1])
for (upper, lower), space in zip(panels.T, ("rgb", "lab", "oklab"), strict=True):
    run = kmdist.quantize("sample:photos", k=8, space=space, include=["coffee.png"])
    upper.imshow(run.palette[run.labels("coffee.png")[:]])
    upper.set_title(space)
    lower.imshow(run.palette[None], aspect="auto")
    upper.set_axis_off()
    lower.set_axis_off()
