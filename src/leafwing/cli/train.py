"""`leafwing train`: its flags are the settings, and the options of the recipe that is asked for, read from the recipe's text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from leafwing import recipes
from leafwing.cli.resume import finish
from leafwing.cli.shared import FOLDER, MACHINE, OUTPUT, TRAINING, set_signature, setting_flag, typed
from leafwing.progress import Screen
from leafwing.quantities import show_bytes, show_count, show_duration
from leafwing.settings import catalogue

OF_THE_CALL: dict[str, tuple[Any, Any, Group, str]] = {
    "recipe": (str | None, None, TRAINING, f"A recipe, or the path of a recipe file. Default: {recipes.DEFAULT}."),
    "out": (Path | None, None, FOLDER, "The run folder, which must not exist. Default: numbered under --root."),
    "root": (Path, Path("runs"), FOLDER, "Folder that holds numbered run folders."),
    "from": (Path | None, None, FOLDER, "Replay a run.json: its settings hold wherever none is given."),
    "devices": (int, 1, MACHINE, "Number of processes that share every batch, each with a device of its own. Default: 1."),
    "tensorboard": (bool, False, OUTPUT, "Write TensorBoard files too."),
    "dry_run": (bool, False, OUTPUT, "Print the resolved plan with measured speed, and train nothing."),
    "json": (bool, False, OUTPUT, "One JSON document on standard output and nothing else there."),
}
"""What a command line of `train` says beside settings and the recipe's options: type, default, group and help."""


def asked_recipe(words: Sequence[str]) -> str | None:
    """The recipe whose options a `train` command line may use: --recipe, else that of --from, else the default.

    None for a plain `train --help`, which shows the common options alone.
    """
    given = typed(words)
    if "--recipe" in given:
        return given["--recipe"]
    if "--from" in given:
        from leafwing.commands.plan import replayed

        old = replayed(given["--from"])
        return old.recipe if old.recipe_is_installed() else None
    return None if {"--help", "-h"} & given.keys() else recipes.DEFAULT


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `train` with the options of the recipe that a command line names, read from the recipe's text.

    Args:
        words: the command line behind `train`.
    """
    recipe = asked_recipe(words)

    def train(source: str | None = None, **given: Any) -> int:
        return _train(source, given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    source = Annotated[
        str | None,
        Parameter(
            help="A folder, a .zip or .tar archive, IDX files, or a built-in data set: digits, sprites, stacked, ring, grid."
        ),
    ]
    signature = [inspect.Parameter("source", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=source)]
    for name, (kind, default, group, text) in OF_THE_CALL.items():
        about = Parameter(
            name=f"--{name.replace('_', '-')}",
            help=text,
            group=group,
            negative="" if kind is bool else None,
            show_default=name == "root",
        )
        name_ = "replay" if name == "from" else name
        signature.append(inspect.Parameter(name_, keyword, default=default, annotation=Annotated[kind, about]))
    for setting in catalogue().values():
        signature.append(inspect.Parameter(setting.name, keyword, default=None, annotation=setting_flag(setting)))
    title = "Train a recipe on pictures and leave a run folder."
    if recipe is None:
        title += "\n\nWith --recipe X, --help shows that recipe's own options too; `leafwing recipes` lists the recipes."
    else:
        card = recipes.describe(recipe)
        group = Group(f"Options of {card.name}", sort_key=2)
        for option in card.options:
            signature.append(
                inspect.Parameter(option.name, keyword, default=option.default, annotation=flag(card, option, group))
            )
        title += f"\n\n{card.title}. {card.authors} {card.year}, {card.paper}\n\n{card.line}"
    set_signature(train, signature)
    train.__doc__ = title
    return train


def flag(card: recipes.Card, option: recipes.Option, group: Group) -> Any:
    """A recipe's option as a flag without a default of its own: what is not typed is the recipe's, or the replayed run's."""
    about = f"{option.help} Default: {option.default}."
    if option.type is bool:
        return Annotated[bool | None, Parameter(help=about, group=group, show_default=False)]
    if option.choices:
        return Annotated[Literal[option.choices] | None, Parameter(help=about, group=group, show_default=False)]

    def read(_: Any, tokens: Sequence[Any]) -> Any:
        return option.check(card.name, tokens[0].value)

    return Annotated[option.type | None, Parameter(help=about, group=group, converter=read, show_default=False)]


def _train(source: str | None, given: dict[str, Any]) -> int:
    from leafwing import commands

    as_json, dry_run, _ = given.pop("json", False), given.pop("dry_run", False), given.pop("devices", 1)
    given = {name: value for name, value in given.items() if value is not None}
    if dry_run:
        given = {name: value for name, value in given.items() if name not in ("tensorboard", "root")}
        plan = commands.forecast(source, progress=Screen(), **given)
        print(json.dumps(plan, indent=2) if as_json else describe_plan(plan))
        return 0
    return finish(commands.train(source, progress=Screen(), **given), as_json)


def describe_plan(plan: dict[str, Any]) -> str:
    """The resolved plan of --dry-run for people."""
    data, schedule, machine, spec = plan["data"], plan["schedule"], plan["machine"], plan["data"]["spec"]
    shape = "points" if not spec["height"] else f"{spec['height']}x{spec['width']}, {spec['channels']} channels"
    labels = f", {len(spec['labels'])} classes" if spec["labels"] else ""
    labels += f", {len(spec['attributes'])} attributes" if spec["attributes"] else ""
    network = ", ".join(f"{name} {show_count(n)}" for name, n in plan["parameters"].items())
    until = f"{schedule['images']:,} images ({plan['epochs']:g} epochs)"
    until += f" or {show_duration(schedule['time'])}" if schedule["time"] else ""
    lines = [
        f"recipe      {plan['recipe']}",
        f"data        {data['source']}: {data['samples']:,} samples, {shape}{labels}; {data['rejected']} rejected"
        + (f", {data['held_out']:,} held out" if data["held_out"] else ""),
        f"parameters  {network}",
        f"train       {until}, {plan['batch']} a turn, seed {schedule['seed']}",
        *(f"{name:11} {show_choice(machine[name])} ({why})" for name, why in plan["why"].items()),
        f"memory      about {show_bytes(plan['memory'])}, worked out ("
        + ", ".join(f"{size} a turn: {show_bytes(needed)}" for size, needed in plan["memory_by_batch"].items())
        + ")",
        f"speed       {plan['images_per_second']:,.0f} images/s, measured",
        f"time        about {show_duration(plan['seconds'])}",
        "options     " + "  ".join(f"{name}={value}" for name, value in plan["options"].items()),
    ]
    return "\n".join(lines)


def show_choice(value: object) -> str:
    """A choice of the engine's: yes and no instead of True and False, and what 0 and None stand for."""
    return {"True": "yes", "False": "no", "None": "auto", "0": "whole"}.get(str(value), str(value))
