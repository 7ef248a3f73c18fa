"""Orthogonal ingredients: each file is one axis of a paper's method section. No network, no training."""
