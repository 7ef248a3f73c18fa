"""The child process of a comparison: `python -m leafwing.commands.comparison.child` makes one call and exits.

Standard input holds the call as a JSON document, `{"call": "train", "arguments": {...}}`; `CALLS` lists the functions. The result is
a JSON document on standard output; progress and errors go to standard error. Exit codes are those of the command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leafwing.commands.closing import try_to_animate
from leafwing.commands.comparison.speed import SliceCounter, measure
from leafwing.commands.evaluate import evaluate
from leafwing.commands.training import resume, train
from leafwing.errors import INTERRUPTED, UNHEALTHY, LeafwingError, stop_like_ctrl_c
from leafwing.progress import ConsoleReporter
from leafwing.runs import Run
from leafwing.settings import Settings

Result = tuple[int, Any]
"""Exit code and JSON-serialisable result."""
EXIT_CODES = {"interrupted": INTERRUPTED, "unhealthy": UNHEALTHY}
"""Exit code by the reason why training ended; 0 for all other reasons."""
AT_THE_END = ("memorisation", "leaks")
"""Metrics that are measured at the last checkpoint only."""


def main(text: str) -> int:
    """Makes the call that a JSON document describes, prints its result, and returns the exit code."""
    request = json.loads(text)
    try:
        code, result = CALLS[request["call"]](**request["arguments"])
    except LeafwingError as error:
        print(f"leafwing: {error.for_command_line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("leafwing: stopped", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(result))  # ASCII, whatever encoding the output has
    return code


def run_training(settings: Mapping[str, Any], **arguments: Any) -> Result:
    """`leafwing.train`; `settings` holds the sections of `Settings`."""
    return finish(train(settings=read_settings(settings), progress=ConsoleReporter(), **arguments))


def run_resume(**arguments: Any) -> Result:
    """`leafwing.resume`."""
    return finish(resume(progress=ConsoleReporter(), **arguments))


def run_evaluation(checkpoints: Sequence[int], **arguments: Any) -> Result:
    """`leafwing.evaluate` of several checkpoints, given by images shown, oldest first.

    The last one has all metrics. Those of copies (`AT_THE_END`) are not measured at the others, unless they are the only ones.
    """
    from leafwing.engine.processes import Processes

    *earlier, last = checkpoints
    arguments = {**arguments, "processes": Processes(), "progress": ConsoleReporter()}
    rows = evaluate(checkpoint=last, **arguments)
    names = list(dict.fromkeys(row["by"] for row in rows))
    names = [name for name in names if name not in AT_THE_END] or names
    for images in reversed(earlier):
        rows += evaluate(checkpoint=images, **{**arguments, "metrics": names})
    return 0, {"rows": rows}


def run_measurement(settings: Mapping[str, Any], **arguments: Any) -> Result:
    """`speed.measure`: the speeds of training and evaluation by recipe."""

    def report(name: str) -> None:
        print(f"{SliceCounter.LINE}{name}", file=sys.stderr, flush=True)

    return 0, measure(settings=read_settings(settings), report=report, **arguments)


CALLS: dict[str, Callable[..., Result]] = {
    "train": run_training,
    "resume": run_resume,
    "evaluate": run_evaluation,
    "speed": run_measurement,
}
"""The functions that a request can name."""


def read_settings(sections: Mapping[str, Any]) -> Settings:
    """Settings from their JSON form."""
    import msgspec

    return msgspec.convert(sections, Settings)


def finish(run: Run) -> Result:
    """Writes the reel of a run whose training ended, and reports why it ended."""
    _, problem = try_to_animate(run)
    if problem:
        print(problem, file=sys.stderr)
    return EXIT_CODES.get(run.stop_reason, 0), {"run": str(run.folder), "stop_reason": run.stop_reason}


if __name__ == "__main__":
    stop_like_ctrl_c()
    sys.exit(main(sys.stdin.read()))
