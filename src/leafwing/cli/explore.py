"""`leafwing explore RUN TOOL`: the options are those of the tool, read from its signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from leafwing.cli.shared import FOLDER, OUTPUT, Json, Root, Trust, as_json, option, set_signature, setting_flag
from leafwing.commands.explore import explore as run_tool
from leafwing.errors import LeafwingError
from leafwing.laboratory import TOOLS, cards
from leafwing.progress import ConsoleReporter
from leafwing.recipes import descriptions
from leafwing.settings import all_settings

CONDITIONS, COMPARISON = (Group(name, sort_key=key) for name, key in (("Conditions", 2), ("Comparison of images", 3)))
TOOL_TABLE = "\n".join(["| Tool | Purpose |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in TOOLS.items())])

COMMON: dict[str, tuple[Any, Any]] = {
    "checkpoint": (Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)], "last"),
    "label": (
        Annotated[str | None, option("Class of all samples, by name or index: short for --set label=CLASS.", CONDITIONS)],
        None,
    ),
    "set": (
        Annotated[
            list[str] | None,
            option(
                "Set a condition of all samples: smiling=1, caption='a red star', box=.2,.2,.5,.5. Repeatable.", CONDITIONS
            ),
        ],
        None,
    ),
    "data": (Annotated[str | None, option("Real images to use instead of the run's data set.", FOLDER)], None),
    "features": (
        Annotated[
            Literal["own", "lite0", "pixels", "inception"],
            option(
                "Feature network that compares images: own (a small network trained on your data), lite0 (a classifier of "
                "photographs), pixels or inception.",
                COMPARISON,
            ),
        ],
        "own",
    ),
    "out": (Annotated[Path | None, option("Output folder. Default: inside the run's explore folder.", OUTPUT)], None),
    "device": (setting_flag(all_settings()["device"], "Device to compute on. Default: cpu."), None),
    "trust": (Trust, False),
    "root": (Root, Path("runs")),
    "json": (Json, False),
}
WITH_DATA = {"data", "labelled", "held_out", "features", "reader"}
"""The inputs of tools that may be made of --data."""


def tool_in(words: Sequence[str]) -> str | None:
    """The tool on the command line after `explore`, after the run or alone; None if there is none."""
    return next((word for word in (*words[1:2], *words[:1]) if word in TOOLS), None)


def usage(words: Sequence[str]) -> str:
    """The usage line: with the name of the tool, if there is one on the command line."""
    return f"Usage: leafwing explore RUN {tool_in(words) or 'TOOL'} [OPTIONS]"


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `explore` with the options of the tool on the command line.

    Args:
        words: the command line after `explore`.

    Raises:
        LeafwingError: the tool stands where the run should be.
    """
    name = tool_in(words)
    if name is not None and name not in words[1:2] and not {"--help", "-h"} & {*words}:
        raise LeafwingError(f"explore: the run comes first: leafwing explore RUN {name}")

    def explore(run: str, tool: str, **options: Any) -> int:
        return _explore(run, tool, options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    positional = inspect.Parameter.POSITIONAL_ONLY
    run_type = Annotated[str, Parameter(help="Folder, name, number or `last`.")]
    tool_type = Annotated[str, Parameter(help=name or ", ".join(TOOLS))]
    signature = [
        inspect.Parameter("run", positional, annotation=run_type),
        inspect.Parameter("tool", positional, annotation=tool_type),
    ]
    title = (
        f"Analyse a run: what has it learnt?\n\n{TOOL_TABLE}\n\n`leafwing explore TOOL --help` shows a tool's own options."
    )
    common = dict(COMMON)
    if name is not None:
        card = cards.describe(name)
        group = Group(f"Options of {name}", sort_key=1)
        helps = descriptions(card.doc)
        for parameter in card.options:
            flags = ("--n", "-n") if parameter.name == "n" else None
            about = Parameter(name=flags, help=helps.get(parameter.name, ""), group=group)
            signature.append(parameter.replace(annotation=Annotated[parameter.annotation, about]))
        if "features" not in card.inputs:
            del common["features"]
        if not WITH_DATA & {*card.inputs}:
            del common["data"]
        title = card.doc.partition("\n\nArgs:")[0] + f"\n\nNeeds: {'; '.join(card.needs)}."
    for option_name, (kind, default) in common.items():
        signature.append(inspect.Parameter(option_name, keyword, default=default, annotation=kind))
    set_signature(explore, signature)
    explore.__doc__ = title
    return explore


def _explore(run: str, name: str, options: dict[str, Any]) -> int:
    cards.describe(name)  # refuses an unknown tool before torch is imported
    json, settings = options.pop("json", False), options.pop("set", None) or ()
    device = options.pop("device", None) or "cpu"
    exploration = run_tool(run, name, conditions=settings, device=device, progress=ConsoleReporter(), **options)
    files = [str(path) for path in exploration.files]
    if json:
        print(as_json({**exploration.document, "written": files}))
        return 0
    for sentence in exploration.document["words"]:
        print(sentence)
    for file in files:
        print(f"  {file}")
    return 0
