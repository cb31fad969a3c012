"""Rows, the one loop over them, and what is taken from them: knows no network."""
