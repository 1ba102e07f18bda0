"""
How many groups of digits: a sweep of k
=======================================

The walk-through on MNIST fits k = 10, 16, 36, 64, 144, 256 by mini-batches, and names clusters by
majority. The same on the bundled digits: more clusters are purer, and inertia has no clear elbow,
since digits are no round clusters.
"""

import matplotlib.pyplot as plt
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_digits
from sklearn.metrics import homogeneity_score

import kmdist

ks = [10, 16, 36, 64, 144]
rows, digits = load_digits(return_X_y=True)
walked = [
    homogeneity_score(digits, MiniBatchKMeans(k, n_init=1, random_state=0).fit_predict(rows))
    for k in ks
]
run = kmdist.digits("sample:digits", k=ks, preset="gradient")
scores = [one.attributes["scores"] for one in run.runs.values()]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(ks, [one.inertia for one in run.runs.values()], "o-")
left.set_ylabel("inertia")
right.plot(ks, [one["homogeneity"] for one in scores], "o-", label="kmdist: homogeneity")
right.plot(ks, [one["accuracy_majority"] for one in scores], "s--", label="kmdist: accuracy")
right.plot(ks, walked, "^:", label="walk-through: homogeneity")
right.legend()
for axes in (left, right):
    axes.set_xlabel("k")
