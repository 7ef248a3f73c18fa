"""`leafwing explore RUN TOOL` as it is typed: its options are those of the tool, read from the tool's signature and docstring."""

from __future__ import annotations

import inspect
import json as format_json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter

from leafwing.commands.explore import explore as run_tool
from leafwing.errors import LeafwingError
from leafwing.laboratory import FILLED, TOOLS, tool
from leafwing.progress import Screen
from leafwing.recipes import descriptions

MACHINE, FOLDER, OUTPUT = (Group(name, sort_key=key) for key, name in enumerate(("Machine", "Run folder", "Output"), 4))
LIST = "\n\n".join(f"{name}: {text}" for name, text in TOOLS.items())


def about(text: str, group: Group) -> Parameter:
    """What --help says of an option, and where."""
    return Parameter(help=text, group=group, negative="")


COMMON: dict[str, tuple[Any, Any, Parameter]] = {
    "checkpoint": (str, "last", about("Checkpoint: images shown (200k), last or best.", FOLDER)),
    "data": (str | None, None, about("Other real pictures, for tools that use real ones.", FOLDER)),
    "features": (
        Literal["own", "pixels", "inception"],
        "own",
        about("Feature network in which pictures are compared.", MACHINE),
    ),
    "out": (Path | None, None, about("Output folder. Default: inside the run's explore folder.", OUTPUT)),
    "device": (Literal["auto", "cpu", "cuda", "mps"], "cpu", about("Device to compute on.", MACHINE)),
    "trust": (bool, False, about("Execute the run's recipe.py although it is not an installed recipe.", FOLDER)),
    "root": (Path, Path("runs"), about("Folder that holds numbered run folders.", FOLDER)),
    "json": (bool, False, about("One JSON document on standard output and nothing else there.", OUTPUT)),
}


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `explore` with the options of the tool that a command line names.

    Args:
        words: the command line behind `explore`.
    """
    named = next((word for word in words[1:2] if word in TOOLS), None)

    def explore(run: str, tool: str, **given: Any) -> int:
        return _explore(run, tool, given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    plain = inspect.Parameter.POSITIONAL_ONLY
    run = Annotated[str, Parameter(help="Folder, name, number or `last`.")]
    which = Annotated[str, Parameter(help=", ".join(TOOLS))]
    signature = [inspect.Parameter("run", plain, annotation=run), inspect.Parameter("tool", plain, annotation=which)]
    title = (
        f"Look into a run: what has it learnt?\n\n{LIST}\n\n`leafwing explore RUN TOOL --help` shows a tool's own options."
    )
    if named is not None:
        function = tool(named)
        group = Group(f"Options of {named}", sort_key=1)
        doc = inspect.getdoc(function) or ""
        said, hints = descriptions(doc), get_type_hints(function)
        for name, one in list(inspect.signature(function).parameters.items())[1:]:
            if name not in FILLED:
                kind: Any = Annotated[hints[name], Parameter(help=said.get(name, ""), group=group)]
                signature.append(inspect.Parameter(name, keyword, default=one.default, annotation=kind))
        title = doc.partition("\n\nArgs:")[0]
    for name, (kind, default, parameter) in COMMON.items():
        signature.append(inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, parameter]))
    explore.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    explore.__annotations__ = {one.name: one.annotation for one in signature}
    explore.__doc__ = title
    return explore


def _explore(run: str, name: str, given: dict[str, Any]) -> int:
    as_json = given.pop("json", False)
    if name not in TOOLS:
        tool(name)  # raises: there is no such tool
        raise LeafwingError(f"explore {name}: the tool is the second word, as in leafwing explore last {next(iter(TOOLS))}")
    found = run_tool(run, name, progress=Screen(), **given)
    files = [str(path) for path in found.written]
    if as_json:
        print(format_json.dumps({**found.document, "written": files}, indent=2, ensure_ascii=False))
        return 0
    for word in found.document["words"]:
        print(word)
    for file in files:
        print(f"  {file}")
    return 0
