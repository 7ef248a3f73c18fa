"""Comparing recipes: parallel training, evaluation under one protocol, one report. The function is `compare.compare`."""
