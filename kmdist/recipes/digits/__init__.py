"""Handwritten characters into clusters."""
