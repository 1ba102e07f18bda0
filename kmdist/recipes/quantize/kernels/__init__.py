"""Numba mathematics of colours: counting, trees, seeds, label tables."""
