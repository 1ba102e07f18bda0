"""`kmdist.responses`: lazy, and the same for every chunking."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kmdist
from kmdist.errors import UsageError
from kmdist.filters import FilterBank, grey, leung_malik
from tests.support.correlation import assert_close, direct


@st.composite
def chunked(draw):
    """A shape, and chunks for it, some smaller than the halo."""
    chunks = [tuple(draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))) for _ in range(2)]
    return tuple(sum(side) for side in chunks), tuple(chunks)


@given(chunked(), st.integers(0, 12), st.sampled_from(["grey", "rgb", "rgba", "one"]))
@settings(deadline=None, max_examples=25)
def test_chunking_does_not_matter(shape_and_chunks, halo, kind):
    shape, chunks = shape_and_chunks
    rng = np.random.default_rng(halo)
    bank = FilterBank(rng.standard_normal((3, 2 * halo + 1, 2 * halo + 1)), ("a", "b", "c"))
    extra = {"grey": (), "one": (1,), "rgb": (3,), "rgba": (4,)}[kind]
    image = rng.integers(0, 256, (*shape, *extra), dtype=np.uint8)
    lazy = kmdist.responses(da.from_array(image, chunks=(*chunks, *extra)), bank)
    assert lazy.shape == (*shape, 3)
    assert lazy.dtype == np.float32
    got = lazy.compute(scheduler="synchronous")
    assert got.shape == lazy.shape
    flat = grey(image).astype(np.float64)
    expected = direct(flat, bank.kernels) if halo else flat[..., None] * bank.kernels.ravel()
    assert_close(got, expected)


def test_numpy_images_are_cut_and_nothing_is_computed_before_it_is_asked_for():
    image = np.random.default_rng(0).random((1100, 60), dtype=np.float32)
    lazy = kmdist.responses(image, leung_malik())
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == ((1024, 76), (60,), (48,))
    got = lazy[1010:1030].compute(scheduler="synchronous")
    assert_close(got, direct(image[980:1060], leung_malik().kernels)[30:50])


@pytest.mark.parametrize("shape", [(5,), (4, 0), (4, 4, 2), (2, 2, 2, 2)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(UsageError, match="got shape"):
        kmdist.responses(np.zeros(shape), leung_malik())


def test_complex_images_are_refused():
    with pytest.raises(UsageError, match="complex128"):
        kmdist.responses(np.zeros((4, 4), complex), leung_malik())
