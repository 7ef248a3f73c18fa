"""Compare recipes: parallel trainings, evaluations under one protocol, one report. The function is `compare.compare`."""
