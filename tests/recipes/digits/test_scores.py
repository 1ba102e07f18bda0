"""Scores against scikit-learn's and against a search over all maps."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from kmdist.recipes.digits import scores

PAIRS = st.integers(1, 200).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


@given(PAIRS)
@settings(deadline=None, max_examples=60)
def test_equal_to_scikit_learn(pair: tuple[list[int], list[int]]) -> None:
    labels, classes = np.array(pair[0]), np.array(pair[1])
    got = scores.score_labels(labels, classes)
    assert got.nmi == pytest.approx(metrics.normalized_mutual_info_score(classes, labels), abs=1e-9)
    assert got.ari == pytest.approx(metrics.adjusted_rand_score(classes, labels), abs=1e-9)
    assert got.homogeneity == pytest.approx(metrics.homogeneity_score(classes, labels), abs=1e-9)
    assert got.completeness == pytest.approx(metrics.completeness_score(classes, labels), abs=1e-9)


@given(PAIRS)
@settings(deadline=None, max_examples=30)
def test_accuracies_are_the_best_maps(pair: tuple[list[int], list[int]]) -> None:
    labels, classes = np.array(pair[0]), np.array(pair[1])
    got = scores.score_labels(labels, classes)
    maps = (np.array(p) for p in permutations([0, 1, 2, 3, -1, -1]))
    assert got.accuracy_hungarian == max((mapped[labels] == classes).mean() for mapped in maps)
    right = sum(np.bincount(classes[labels == j]).max() for j in np.unique(labels))
    assert got.accuracy_majority == pytest.approx(right / len(labels))


def test_tables_of_parts_add_up() -> None:
    random = np.random.default_rng(0)
    labels, classes = random.integers(0, 7, 1000), random.integers(0, 4, 1000)
    whole = scores.confusion_matrix(labels, classes, 7, 4)
    parts = [scores.confusion_matrix(labels[a::3], classes[a::3], 7, 4) for a in range(3)]
    assert np.array_equal(whole, sum(parts))
    assert np.array_equal(whole.T, metrics.confusion_matrix(classes, labels)[:4, :7])


def test_map_learnt_elsewhere() -> None:
    table = np.array([[5, 1], [0, 4], [3, 0]])
    assert scores.hungarian_map(table).tolist() == [0, 1, -1]
    assert scores.accuracy(np.array([[1, 0], [1, 1], [9, 0]]), np.array([0, 1, -1])) == 2 / 12


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [([0, 1], [0], "2 labels but 1 classes"), ([0, 9], [0, 0], "do not lie in 0 … 2")],
)
def test_wrong_input(labels: list[int], classes: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scores.confusion_matrix(np.array(labels), np.array(classes), 3, 2)
