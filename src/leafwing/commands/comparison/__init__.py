"""Compare recipes: many trainings side by side, one protocol, one report. `comparing.compare` is the function; `typed` its words."""
