"""Displays, one in each file; ``skdeeptd.plotting`` collects them."""
