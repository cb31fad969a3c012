"""Starts of the fit: tensor decomposition, signs and the search over starts."""
