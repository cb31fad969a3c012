"""Solvers: Gauss-Newton, ridge regression and linear algebra."""
