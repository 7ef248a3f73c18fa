"""`python -m leafwing.commands.comparison`: the child of a comparison that measures speeds in one slot of the machine."""

import sys

from leafwing.commands.comparison.speeds import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
