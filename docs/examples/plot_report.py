"""
A report to click
=================

:func:`kmdist.report` writes one page that holds everything: pictures whose clusters are picked by
a click, figures, what ran. It needs no network; send it by mail.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import kmdist

run = kmdist.quantize("sample:photos", k=8)
page = kmdist.report(run, Path(tempfile.mkdtemp()) / "report.html")
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")

# %%
# The sheet that :func:`kmdist.view` draws is the same on paper.

sheet = kmdist.view(run, page.with_name("sheet.png"))
figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
axes.imshow(plt.imread(sheet))
axes.set_axis_off()
