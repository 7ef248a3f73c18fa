"""`python -m leafwing` is the command `leafwing`."""

from leafwing.cli import main

main()
