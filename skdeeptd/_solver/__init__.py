"""Comparison of candidates."""
