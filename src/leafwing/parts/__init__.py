"""Building blocks of recipes: each file is one aspect of a paper's method section. No generators, discriminators or training."""
