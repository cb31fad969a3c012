"""Blocks of rows, the loop over them, and their statistics; without networks."""
