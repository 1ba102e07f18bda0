"""Per-block mathematics in numba. Import the module that is needed: each compiles on first use."""
