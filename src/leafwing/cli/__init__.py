"""`leafwing <verb>`: words typed by a user, turned into one call of `commands`. No logic of its own, and no torch at start-up.

One file a command, loaded when it is asked for. Results go to standard output (with --json one document and nothing else), everything
said on the way to standard error. Exit codes: 0 done; 2 bad input; 3 training diverged or was stopped as unhealthy; 4 cannot write;
5 another process is gone; 130 stopped by Ctrl-C after a checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from leafwing import __version__
from leafwing.cli.shared import INTERRUPTED, together, typed
from leafwing.errors import LeafwingError

COMMANDS = {
    "train": "Train a recipe on pictures and leave a run folder.",
    "resume": "Continue a run exactly from its last checkpoint.",
    "sample": "Generate samples from a run; neither the data nor the cache is needed.",
    "reel": "The progress of a run as an animation.",
    "runs": "List the runs.",
    "doctor": "Examine a source of pictures: what is in it, what will be rejected and why, advice. Never changes it.",
    "show": "A contact sheet of a source as training will see it.",
    "evaluate": "Measure what a run generates: FID, KID, precision, recall, memorisation, ...",
    "compare": "Compare recipes over several seeds under one protocol, in one report.",
    "explore": "Look into a run: interpolation, latent arithmetic, features, ...",
    "recipes": "List the recipes: name, year, paper and one line each.",
}
"""Every command, and what the list of commands says of it. Each is the function `command` in the file of its name; those of `train`
and `explore` are made anew, for the recipe or the tool that is asked for."""
MADE = ("train", "explore")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `leafwing`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        if (devices := asked_devices(words)) > 1:
            from leafwing.commands.launching import launch

            return launch(words, devices)
        result = commands_for(words)(words, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        print(f"leafwing: {error}", file=sys.stderr)
        if words[:1] == ["train"]:
            print("The options of a recipe: leafwing train --recipe NAME --help", file=sys.stderr)
        return 2
    except LeafwingError as error:
        print(f"leafwing: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("leafwing: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def asked_devices(words: Sequence[str]) -> int:
    """How many processes this command line is to be run in; 1 in a process that was already started with others."""
    shares = words[:1] in (["train"], ["resume"], ["sample"], ["evaluate"])
    if not shares or together() or {"--help", "-h", "--dry-run"} & {*words}:
        return 1
    number = typed(words).get("--devices", "1")
    if number.lstrip("-").isdigit() and int(number) < 1:
        raise LeafwingError(f"--devices {number}: at least 1 is needed")
    return int(number) if number.isdigit() else 1  # what is no number at all is named where all options are read


def commands_for(words: Sequence[str]) -> App:
    """The whole command line, in which `train` has the options of the recipe that is asked for, and `explore` those of the tool."""
    app = App(
        name="leafwing",
        version=__version__,
        help="From a folder of pictures to a trained, measured, explained and shippable GAN.",
        version_flags=["--version"],
    )
    for name, line in COMMANDS.items():
        if name in MADE and words[:1] == [name]:
            if name == "train":
                from leafwing.cli.train import command
            else:
                from leafwing.cli.explore import command
            app.command(command(words[1:]), name=name)
        else:
            app.command(f"leafwing.cli.{name}:command", name=name, help=line)
    return app
