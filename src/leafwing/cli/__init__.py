"""The command line, `leafwing <command>`: translates arguments into one call of `commands`. No other logic, and no torch at start-up.

There is one file per command, loaded when needed. Results go to standard output (with --json one document and nothing else), progress
and messages to standard error. Exit codes: 0 success; 2 invalid input, or out of memory; 3 training diverged or was stopped as
unhealthy; 4 cannot write; 5 another process was lost; 6 the time was up before the last image (--or-resume); 130 stopped by Ctrl-C or
another signal, training after a checkpoint.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from leafwing import __version__
from leafwing.cli.shared import expand_home, is_distributed, option_values
from leafwing.cli.streams import Steady
from leafwing.errors import INTERRUPTED, InvalidOption, LeafwingError, stop_like_ctrl_c, visible
from leafwing.quantities import real

COMMANDS = {
    "train": "Train a recipe on images and create a run folder.",
    "resume": "Continue a run exactly from its last checkpoint.",
    "sample": "Generate samples from a run; neither the data nor the cache is needed.",
    "translate": "Generate pictures from pictures: a file, a folder or an archive.",
    "score": "Score your own pictures with a run's discriminator.",
    "reel": "Film the training progress of a run.",
    "walk": "Film a walk through latent space: one sample changes into the next.",
    "runs": "List the runs.",
    "prepare": "Make a folder of aligned crops from pictures with landmarks or boxes.",
    "doctor": "Examine an image source: what it contains, which images are rejected and why, and advice.",
    "show": "Draw a contact sheet of a source as training will see it.",
    "evaluate": "Compute metrics of a run: FID, KID, precision, recall, memorisation, ...",
    "compare": "Compare recipes over several seeds under one protocol, and write a report.",
    "explore": "Analyse what a run has learnt: interpolation, latent arithmetic, features, ...",
    "recipes": "List the recipes: name, year, the data each uses (images, points, input, label, ...), paper, one-line summary.",
}
"""Every command, with its line in the list of commands. Each is the function `command` in the file of its name."""
MAX_DEVICES = 1024
"""The largest number of processes on one machine."""
USAGE = {name: f"Usage: leafwing {name} SOURCE... [OPTIONS]" for name in ("train", "doctor", "show")}
"""The first line of the help of commands that take any number of sources."""
START = (
    "Start: `leafwing train digits`, then `leafwing sample last`. Options of a command: `leafwing COMMAND --help`. "
    "Guide: docs/README.md."
)
"""The end of the list of commands."""
TRAINING = ("train", "resume", "compare")
"""Commands whose threads wait actively: they choose their number by the load."""
NO_MEMORY = (
    "out of memory: ask for less at a time (fewer samples or steps, a smaller --scale or --size, one of several --jobs), end other "
    "programs, or choose another --device. What was complete before is intact"
)
"""The answer to a command that ran out of memory; that of training names its options."""
FACTORIES = ("train", "explore", "compare")
"""Commands whose options depend on recipes or a tool: there, `command` is a function from a command line to the command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the program `leafwing`."""
    stop_like_ctrl_c()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in TRAINING:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # on a busy machine, threads that spin slow each other down
    for name in ("stdout", "stderr"):
        if stream := getattr(sys, name):  # None if it was closed before the start
            # Help has colours, and so has progress, whose reporter escapes the text; results come from files.
            if name == "stdout" and hasattr(stream, "reconfigure"):  # Windows writes files in an encoding of few characters
                stream.reconfigure(errors="backslashreplace")
            escapes = name == "stdout" and not {"--help", "-h", "--help-all"} & {*words}
            setattr(sys, name, Steady(stream, escapes=escapes))
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    words = [expand_home(word) for word in words]
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            from leafwing.cli.synonyms import explain_command
            from leafwing.laboratory import TOOLS

            raise LeafwingError(explain_command(words[0], COMMANDS, TOOLS))
        if words[:1] == ["resume"]:
            from leafwing.cli.resume import spell_out

            words = spell_out(words)
        if (devices := requested_devices(words)) > 1:
            from leafwing.commands.launching import launch

            return launch(words, devices)
        arguments = ["--help" if word == "--help-all" else word for word in words]
        app = commands_for(words)
        check_numbers(app, words)
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        from leafwing.cli.usage import explain

        print(visible(f"leafwing: {explain(error, words, switches(words))}"), file=sys.stderr)
        return 2
    except LeafwingError as error:
        print(f"leafwing: {error.for_command_line()}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(
            visible(f"leafwing: {str(error.filename)[:60]}...: longer than the names of files may be", 300), file=sys.stderr
        )
        return 2
    except (MemoryError, RuntimeError) as error:
        from leafwing.commands.capacity import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        print(f"leafwing: {NO_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("leafwing: stopped", file=sys.stderr)
        return INTERRUPTED


def switches(words: Sequence[str]) -> set[str]:
    """The options of the command of a command line that take no value."""
    if not words or words[0] not in COMMANDS:
        return set()
    arguments = commands_for(words)[words[0]].assemble_argument_collection()
    return {name for argument in arguments if argument.hint in (bool, bool | None) for name in argument.names}


def requested_devices(words: Sequence[str]) -> int:
    """The number of processes that `--devices` requests; 1 in a process that was already started as one of several."""
    distributable = words[:1] in (["train"], ["resume"], ["sample"], ["evaluate"])
    if not distributable or is_distributed() or {"--help", "-h", "--help-all", "--dry-run"} & {*words}:
        return 1
    number = option_values(words).get("--devices", "1")
    try:
        devices = int(real(number))
    except ValueError:
        return 1  # reported when all options are parsed
    if not 1 <= devices <= MAX_DEVICES:
        raise InvalidOption("devices", number, "must be at least 1" if devices < 1 else f"must be at most {MAX_DEVICES:,}")
    if devices > 1 and words[0] == "sample" and "--seeds" in option_values(words):
        raise InvalidOption("devices", number, "the samples of --seeds are generated by one process; use -n and --seed")
    return devices


def check_numbers(app: App, words: Sequence[str]) -> None:
    """Raises InvalidOption for values of numeric options that the parser would take for another number, or that only Python takes for
    one: fractions for whole numbers, nan, 1e999, -0, digits of other scripts."""
    if len(words) < 2 or words[0] not in COMMANDS:
        return
    values = option_values(words)
    for argument in app[words[0]].assemble_argument_collection():
        if argument.hint not in (int, float, int | None, float | None):
            continue
        for name in {*argument.names} & values.keys():
            try:
                float(values[name])
            except ValueError:
                continue  # the parser says what is expected
            try:
                number = real(values[name])
            except ValueError as error:
                raise InvalidOption(name.lstrip("-"), values[name], str(error)) from None
            if argument.hint in (int, int | None) and not number.is_integer():
                raise InvalidOption(name.lstrip("-"), values[name], "must be a whole number")


def commands_for(words: Sequence[str]) -> App:
    """The command line: `train` and `compare` have the options of the selected recipes, `explore` those of the selected tool."""
    app = App(
        name="leafwing",
        version=__version__,
        help="Train, evaluate and analyse GANs on your own images.",
        version_flags=["--version"],
        help_epilogue=START if not words or words[0] not in COMMANDS else None,
    )
    for name, line in COMMANDS.items():
        if name in FACTORIES and words[:1] == [name]:
            if name == "train":
                from leafwing.cli.train import LONG_HELP, command

                end = "" if "--help-all" in words else LONG_HELP
                app.command(command(words[1:]), name=name, usage=USAGE[name], help_epilogue=end)
            elif name == "compare":
                from leafwing.cli.compare import command

                app.command(command(words[1:]), name=name)
            else:
                from leafwing.cli import explore

                app.command(explore.command(words[1:]), name=name, usage=explore.usage(words[1:]))
        else:
            app.command(f"leafwing.cli.{name}:command", name=name, help=line, usage=USAGE.get(name))
    return app
