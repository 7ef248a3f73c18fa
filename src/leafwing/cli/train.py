"""`leafwing train`: its options are the training settings and the options of the selected recipe, read from its source text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Group, Parameter

from leafwing import recipes
from leafwing.cli.resume import finish
from leafwing.cli.shared import (
    FOLDER,
    MACHINE,
    OUTPUT,
    TRAINING,
    Sources,
    as_json,
    explicit,
    one_or_several,
    option_values,
    program,
    set_signature,
    setting_flag,
)
from leafwing.errors import TIME_IS_UP, InvalidOption, LeafwingError
from leafwing.option_names import Pace
from leafwing.progress import ConsoleReporter
from leafwing.quantities import show_bytes, show_count, show_duration
from leafwing.recipes._recommended import RECIPES
from leafwing.settings import ARGUMENT_HELP, all_settings

RECOMMENDED = Group("Options of a recommended recipe", sort_key=2)
MOST_USED = Group("Most used options", sort_key=0)
SHORT = (
    "recipe", "size", "images", "time", "mirror", "labels", "input", "hold_out", "seed", "device", "out", "dry_run",
)  # fmt: skip
"""The options that --help lists; --help-all lists all."""
LONG_HELP = "`leafwing train --help-all` lists the other options: data, training, run folder, output, machine."
"""The end of the short list."""
CALL_OPTIONS: dict[str, tuple[Any, Any, Group, str]] = {
    "recipe": (
        str | None,
        None,
        TRAINING,
        ARGUMENT_HELP["recipe"],
    ),
    "out": (Path | None, None, FOLDER, ARGUMENT_HELP["out"]),
    "root": (Path, Path("runs"), FOLDER, ARGUMENT_HELP["root"]),
    "from": (
        Path | None,
        None,
        FOLDER,
        ARGUMENT_HELP["replay"],
    ),
    "devices": (int, 1, MACHINE, "Number of processes that share every batch, each with its own device. Default: 1."),
    "or_resume": (
        bool,
        False,
        FOLDER,
        "If the run folder --out exists already, continue that run with its own settings; --time then starts again from zero. Exit "
        "code: 0 once the run is finished, 6 if the time ran out first.",
    ),
    "tensorboard": (bool, False, OUTPUT, "Write TensorBoard files too."),
    "dry_run": (bool, False, OUTPUT, "Print the resolved plan with measured speed, and train nothing."),
    "verbose": (bool, False, OUTPUT, "With --dry-run: print the hardware settings too, with the reason for each."),
    "json": (bool, False, OUTPUT, "Print one JSON document to standard output and nothing else."),
}
"""Options of `train` that are neither settings nor options of the recipe: type, default, group and help."""
NO_SOURCE = """train needs an image source: a folder, an archive or a built-in data set. For example:
  {program} train digits --images 20k
  {program} train path/to/images --dry-run
{program} train --help lists the options, {program} doctor path/to/images shows what is in a source"""
"""The message about `train` without a source."""


def requested_recipe(words: Sequence[str]) -> str | None:
    """The recipe whose options a `train` command line may use: --recipe, else that of --from; None if it is still to be chosen."""
    values = option_values(words)
    if "--recipe" in values:
        return values["--recipe"]
    if "--from" in values:
        from leafwing.commands.replaying import open_replay

        run = open_replay(values["--from"])
        return run.recipe if run.recipe_is_installed() else str(run.folder / "recipe.py")
    return None


def pace_of(words: Sequence[str]) -> Pace:
    """What epochs and steps mean in the data and with the recipe of a command line of `train` or `compare`."""
    values = {
        name.lstrip("-").replace("-", "_"): value for name, value in option_values(words).items() if name.startswith("--")
    }
    first = words[1:] if words[0] == "train" else words[1:2]
    sources = list(takewhile(lambda word: not word.startswith("-"), first))
    if words[0] == "compare":
        recipe: str | None = values.get("recipes", "").partition(",")[0]
        values.setdefault("hold_out", "auto")
        for word, following in pairwise(words):
            if word == "--set":
                name, _, value = following.partition("=")
                values[name.removeprefix(f"{recipe}.").replace("-", "_")] = value
    else:
        recipe = requested_recipe(words[1:])
    from leafwing.commands.feeding import pace_of_training
    from leafwing.commands.replaying import open_replay

    old = open_replay(values["from"]) if "from" in values else None
    return pace_of_training(one_or_several(sources), recipe, values, values, old)


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `train` with the options of the recipe that a command line selects.

    Args:
        words: the command line after `train`.
    """
    recipe = requested_recipe(words)

    def train(*sources: str, **options: Any) -> int:
        from leafwing.cli.extra import check_sources

        switches = {
            f"--{item.name.replace('_', '-')}" for item in parameters if get_args(item.annotation)[0] in (bool, bool | None)
        }
        check_sources(sources, ["train", *words], switches)
        return _train(one_or_several(sources), options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("sources", inspect.Parameter.VAR_POSITIONAL, annotation=Sources)]
    for name, (kind, default, group, text) in CALL_OPTIONS.items():
        about = Parameter(
            name=f"--{name.replace('_', '-')}",
            help=text,
            group=group,
            negative="" if kind is bool else None,
            show_default=name == "root",
        )
        keyword_name = "replay" if name == "from" else name
        parameters.append(inspect.Parameter(keyword_name, keyword, default=default, annotation=Annotated[kind, about]))
    for setting in all_settings().values():
        parameters.append(inspect.Parameter(setting.name, keyword, default=None, annotation=setting_flag(setting)))
    if {"--help", "-h"} & {*words} and "--help-all" not in words:
        parameters = [parameters[0], *sorted(map(for_short_help, parameters[1:]), key=place_in_help)]
    title = "Train a recipe on images and create a run folder."
    if recipe is None:
        title += "\n\nWith --recipe X, --help also shows the options of that recipe; `leafwing recipes` lists the recipes."
        parameters += [
            inspect.Parameter(
                option.name, keyword, default=option.default, annotation=recipe_flag(card, option, RECOMMENDED)
            )
            for card, option in recommended_options(words)
        ]
    else:
        card = recipes.describe(recipe)
        group = Group(f"Options of {card.name}", sort_key=2)
        for option in card.options:
            annotation = recipe_flag(card, option, group)
            parameters.append(inspect.Parameter(option.name, keyword, default=option.default, annotation=annotation))
        title += f"\n\n{card.title}. {card.authors} {card.year}, {card.paper}\n\n{card.line}"
    set_signature(train, parameters)
    train.__doc__ = title
    return train


def for_short_help(parameter: inspect.Parameter) -> inspect.Parameter:
    """An option as --help lists it, in the first group or not at all."""
    about = Parameter(group=MOST_USED) if parameter.name in SHORT else Parameter(show=False)
    return parameter.replace(annotation=Annotated[parameter.annotation, about])


def place_in_help(parameter: inspect.Parameter) -> int:
    """The place of an option in the short list."""
    return SHORT.index(parameter.name) if parameter.name in SHORT else len(SHORT)


def recommended_options(words: Sequence[str]) -> list[tuple[recipes.Card, recipes.Option]]:
    """The options that a recommended recipe may have, each once, with a recipe that has it; none where no recipe will be chosen."""
    if {"--help", "-h", "--help-all", "--from"} & option_values(words).keys():
        return []
    cards = [recipes.describe(name) for name in RECIPES]
    return [*{option.name: (card, option) for card in reversed(cards) for option in card.options}.values()]


def recipe_flag(card: recipes.Card, option: recipes.Option, group: Group) -> Any:
    """The annotation of a recipe option's flag, which has no default of its own: the default is the recipe's or the replayed run's."""
    about = f"{option.help} Default: {option.default}."
    if option.type is bool:
        return Annotated[bool | None, Parameter(help=about, group=group, show_default=False)]
    if option.choices:
        return Annotated[Literal[option.choices] | None, Parameter(help=about, group=group, show_default=False)]

    def convert(_: Any, tokens: Sequence[Any]) -> Any:
        return option.check(card.name, tokens[0].value)

    return Annotated[option.type | None, Parameter(help=about, group=group, converter=convert, show_default=False)]


def _train(source: str | list[str] | None, options: dict[str, Any]) -> int:
    if source is None and options.get("replay") is None:
        raise LeafwingError(NO_SOURCE.format(program=program()))
    from leafwing import commands

    json, dry_run, devices = options.pop("json", False), options.pop("dry_run", False), options.pop("devices", 1)
    verbose = options.pop("verbose", False)
    or_resume = options.pop("or_resume", False)
    options = explicit(options)
    if verbose and not dry_run:
        raise InvalidOption(
            "verbose", True, "only with --dry-run, which prints the choices and their reasons before training"
        )
    if or_resume and (devices > 1 or dry_run):
        raise InvalidOption("or_resume", True, "not together with --dry-run or with several --devices")
    if dry_run:
        options = {name: value for name, value in options.items() if name != "tensorboard"}
        plan = commands.forecast(source, devices=devices, progress=ConsoleReporter(), **options)
        print(as_json(plan) if json else describe_plan(plan, verbose))
        return 0
    if or_resume:
        run = commands.train_or_resume(source, progress=ConsoleReporter(), **options)
        unfinished = run.stop_reason == "time_limit" and run.records()[-1]["images"] < run.settings.schedule.images
        return finish(run, json) or (TIME_IS_UP if unfinished else 0)
    return finish(commands.train(source, progress=ConsoleReporter(), **options), json)


def describe_plan(plan: dict[str, Any], verbose: bool = False) -> str:
    """The resolved plan of --dry-run as text; verbose: with the hardware settings and the reason for each."""
    data, schedule, machine = plan["data"], plan["schedule"], plan["machine"]
    fields = "; ".join(f"{name}: {kind}" for name, kind in plan["fields"].items())
    network = ", ".join(f"{name} {show_count(n)}" for name, n in plan["parameters"].items())
    pictures = data["samples"] - data.get("duplicates", 0) - data["held_out"]
    epochs = plan["shown"] / pictures
    lines = [
        f"recipe      {plan['recipe']}",
        f"data        {data['source']}: {data['samples']:,} samples; {data['rejected']} rejected"
        + (f", {data['duplicates']:,} repeated and not used" if data.get("duplicates") else "")
        + (f", {data['held_out']:,} held out" if data["held_out"] else ""),
        f"fields      {fields}",
        f"training    {plan['shown']:,} images in about {show_duration(plan['seconds'])}: each of the {pictures:,} about "
        f"{epochs:,.{0 if epochs >= 10 else 1}f} times",
        *([f"            {plan['expect']}"] if plan["expect"] else []),
        f"speed       {plan['images_per_second']:,.0f} images/s, measured",
        *(
            [f"time limit  ends training before its {schedule['images']:,} images"]
            if plan["shown"] < schedule["images"]
            else []
        ),
        f"networks    {network} parameters",
        f"memory      about {show_bytes(plan['memory'])}, estimated",
        *([f"devices     {plan['devices']}; time, speed and memory above are those of one"] if plan["devices"] > 1 else []),
        *describe_augmentation(plan),
        "options     " + "  ".join(f"{name}={value}" for name, value in plan["options"].items()),
    ]
    if verbose:
        lines += [
            f"seed        {schedule['seed']}",
            *(show_choice(name, machine[name], reason) for name, reason in plan["why"].items()),
            "by batch    " + ", ".join(f"{size}: {show_bytes(needed)}" for size, needed in plan["memory_by_batch"].items()),
        ]
    return "\n".join(lines)


def describe_augmentation(plan: dict[str, Any]) -> list[str]:
    """The line of the plan about what critics see; none if they see images as they are."""
    if plan["augment"] == "none":
        return []
    origin = f" (the default of {plan['recipe']})" if plan["critic"]["augment"] is None else ""
    return [f"augment     {plan['augment']}{origin}"]


def show_choice(name: str, value: object, reason: str) -> str:
    """A hardware setting with the reason for its choice, as text."""
    label = "CUDA graphs" if name == "capture" else name.replace("_", "-")
    if name == "micro_batch" and not value:
        text = "whole batch"
    elif name == "capture" and "graphs" in reason:
        text, reason = f"not on {reason.partition(' ')[0]}", ""
    elif name == "resident" and value is None:
        text, reason = f"data {reason}", ""
    elif name == "device" and reason.startswith("the first available"):
        text, reason = str(value), {"cpu": "no cuda or mps found", "mps": "no cuda found"}.get(str(value), "")
    else:
        text = {"True": "yes", "False": "no"}.get(str(value), str(value))
    return f"{label:11} {text}" + (
        f" ({reason})" if reason and reason != "the whole batch, unless memory is too small" else ""
    )
