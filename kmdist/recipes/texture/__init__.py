"""Segmentation by filter banks, shared or per image."""
