"""One function for each thing that leafwing does: what the command line calls and what Python users call.

Each checks its input first, and writes nothing when it is bad.
"""

from leafwing.commands.comparison.comparing import compare
from leafwing.commands.evaluating import evaluate
from leafwing.commands.exploring import explore
from leafwing.commands.forecast import forecast
from leafwing.commands.looking import doctor, reel, sample, show, table
from leafwing.commands.training import resume, train

__all__ = [
    "compare",
    "doctor",
    "evaluate",
    "explore",
    "forecast",
    "reel",
    "resume",
    "sample",
    "show",
    "table",
    "train",
]
