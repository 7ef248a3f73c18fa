"""One function for each thing that leafwing does: what the command line calls and what Python users call.

Each checks its input first, and writes nothing when it is bad.
"""

from leafwing.commands.comparison.compare import compare
from leafwing.commands.continuing import train_or_resume
from leafwing.commands.doctor import doctor
from leafwing.commands.evaluate import evaluate
from leafwing.commands.explore import explore
from leafwing.commands.forecast import forecast
from leafwing.commands.generated import evaluate_pictures
from leafwing.commands.prepare import prepare
from leafwing.commands.reel import reel
from leafwing.commands.runs import list_runs
from leafwing.commands.sample import sample
from leafwing.commands.score import score
from leafwing.commands.seeds import sample_seeds
from leafwing.commands.show import show
from leafwing.commands.training import resume, train
from leafwing.commands.translate import translate
from leafwing.commands.walk import walk

__all__ = [
    "compare",
    "doctor",
    "evaluate",
    "evaluate_pictures",
    "explore",
    "forecast",
    "list_runs",
    "prepare",
    "reel",
    "resume",
    "sample",
    "sample_seeds",
    "score",
    "show",
    "train",
    "train_or_resume",
    "translate",
    "walk",
]
