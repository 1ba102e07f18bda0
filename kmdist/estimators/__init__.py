"""k-means with scikit-learn's contract."""
