"""Pixels of any number of channels, clustered in their own precision."""
