"""
In pipelines of dask-ml
=======================

kmdist's estimators keep scikit-learn's contract and take Dask arrays, so that dask-ml's
preprocessing and :class:`~dask_ml.wrappers.ParallelPostFit` work with them. ``pip install
'kmdist[dask-ml]'``.
"""

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from dask_ml.cluster import KMeans as DaskMLKMeans
from dask_ml.preprocessing import StandardScaler
from dask_ml.wrappers import ParallelPostFit
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

import kmdist

rows, truth = make_blobs(20_000, n_features=6, centers=8, cluster_std=1.6, random_state=3)
X = da.from_array(rows.astype(np.float32), chunks=(5000, 6))
scaled = StandardScaler().fit_transform(X)

# %%
# Both on the same rows. ``inertia_`` is computed here, for the centres that each returns.

for estimator in (
    kmdist.KMeans(8, random_state=0),
    DaskMLKMeans(8, random_state=0),
):
    fitted = estimator.fit(scaled)
    labels = np.asarray(fitted.predict(scaled))
    inertia = ((scaled.compute() - np.asarray(fitted.cluster_centers_)[labels]) ** 2).sum()
    score = adjusted_rand_score(truth, labels)
    print(f"{type(estimator).__module__:28s} inertia {inertia:9.1f}  ARI {score:.3f}")

# %%
# Fitted on a part, applied to all, lazily.

wrapped = ParallelPostFit(kmdist.KMeans(8, random_state=0)).fit(scaled[:5000].compute())
labels = wrapped.predict(scaled)
labels

# %%
# Its clusters, in the first two of the six features.

figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
axes.scatter(*rows[:, :2].T, c=labels.compute(), s=2, cmap="tab10")
