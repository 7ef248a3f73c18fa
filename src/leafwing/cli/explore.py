"""`leafwing explore RUN TOOL`: the options are those of the tool, read from its signature and docstring."""

from __future__ import annotations

import inspect
import json as format_json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter

from leafwing.commands.explore import explore as run_tool
from leafwing.laboratory import INPUTS, TOOLS, tool
from leafwing.progress import ConsoleReporter
from leafwing.recipes import descriptions
from leafwing.settings import all_settings

MACHINE, FOLDER, OUTPUT = (Group(name, sort_key=key) for key, name in enumerate(("Machine", "Run folder", "Output"), 4))
LIST = "\n\n".join(f"{name}: {text}" for name, text in TOOLS.items())


def about(text: str, group: Group) -> Parameter:
    """The help of an option, and the group in which it is listed."""
    return Parameter(help=text, group=group, negative="")


COMMON: dict[str, tuple[Any, Any, Parameter]] = {
    "checkpoint": (str, "last", about("Checkpoint: images shown (200k), last or best.", FOLDER)),
    "data": (str | None, None, about("Other real images, for tools that use real ones.", FOLDER)),
    "features": (
        Literal["own", "pixels", "inception"],
        "own",
        about("Feature network in which images are compared.", MACHINE),
    ),
    "out": (Path | None, None, about("Output folder. Default: inside the run's explore folder.", OUTPUT)),
    "device": (Literal[all_settings()["device"].choices], "cpu", about("Device to compute on.", MACHINE)),
    "trust": (bool, False, about("Execute the run's recipe.py although it is not an installed recipe.", FOLDER)),
    "root": (Path, Path("runs"), about("Folder that holds numbered run folders.", FOLDER)),
    "json": (bool, False, about("Print one JSON document on standard output, and nothing else.", OUTPUT)),
}


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `explore` with the options of the tool on the command line.

    Args:
        words: the command line after `explore`.
    """
    name = words[1] if len(words) > 1 and words[1] in TOOLS else None

    def explore(run: str, tool: str, **options: Any) -> int:
        return _explore(run, tool, options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    positional = inspect.Parameter.POSITIONAL_ONLY
    run_type = Annotated[str, Parameter(help="Folder, name, number or `last`.")]
    tool_type = Annotated[str, Parameter(help=", ".join(TOOLS))]
    signature = [
        inspect.Parameter("run", positional, annotation=run_type),
        inspect.Parameter("tool", positional, annotation=tool_type),
    ]
    title = f"Analyse a run: what has it learnt?\n\n{LIST}\n\n`leafwing explore RUN TOOL --help` shows a tool's own options."
    if name is not None:
        function = tool(name)
        group = Group(f"Options of {name}", sort_key=1)
        doc = inspect.getdoc(function) or ""
        helps, hints = descriptions(doc), get_type_hints(function)
        for option, parameter in list(inspect.signature(function).parameters.items())[1:]:
            if option not in INPUTS:
                kind: Any = Annotated[hints[option], Parameter(help=helps.get(option, ""), group=group)]
                signature.append(inspect.Parameter(option, keyword, default=parameter.default, annotation=kind))
        title = doc.partition("\n\nArgs:")[0]
    for option, (kind, default, details) in COMMON.items():
        signature.append(inspect.Parameter(option, keyword, default=default, annotation=Annotated[kind, details]))
    explore.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    explore.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    explore.__doc__ = title
    return explore


def _explore(run: str, name: str, options: dict[str, Any]) -> int:
    tool(name)  # refuses an unknown tool before torch is imported
    as_json = options.pop("json", False)
    explored = run_tool(run, name, progress=ConsoleReporter(), **options)
    files = [str(path) for path in explored.written]
    if as_json:
        print(format_json.dumps({**explored.document, "written": files}, indent=2, ensure_ascii=False))
        return 0
    for sentence in explored.document["words"]:
        print(sentence)
    for file in files:
        print(f"  {file}")
    return 0
