"""k-means itself, on rows in memory or in Dask blocks; knows no files."""
