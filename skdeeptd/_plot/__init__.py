"""The displays, one a file; ``skdeeptd.plotting`` gathers them."""
