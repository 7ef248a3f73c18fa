"""Orthogonal building blocks: each file is one aspect of a paper's method section. No networks, no training."""
