"""`leafwing <verb>`: words typed by a user, turned into one call of `commands`. No logic of its own, and no torch at start-up.

Results go to standard output (with --json one document and nothing else), everything said on the way to standard error.
Exit codes: 0 done; 2 bad input; 3 training diverged or was stopped as unhealthy; 4 cannot write; 5 another process is gone; 130
stopped by Ctrl-C after a checkpoint.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import CycloptsError

from leafwing import __version__, recipes
from leafwing.errors import LeafwingError
from leafwing.progress import Screen
from leafwing.quantities import show_bytes, show_count, show_duration
from leafwing.settings import Natural, Positive, Setting, catalogue

INTERRUPTED, UNHEALTHY = 130, 3


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


# --- train: its options depend on the recipe --------------------------------------------------------------------------------

PICTURES, TRAINING, MACHINE, FOLDER, OUTPUT = (
    Group(name, sort_key=key)
    for name, key in (("Pictures", 1), ("Training", 3), ("Machine", 6), ("Run folder", 4), ("Output", 5))
)
Json = Annotated[
    bool, Parameter(help="One JSON document on standard output and nothing else there.", group=OUTPUT, negative="")
]
Root = Annotated[Path, Parameter(help="Where numbered run folders lie.", group=FOLDER)]
Devices = Annotated[int, Parameter(help="Processes that share the work, each with a device of its own.", group=MACHINE)]
Trust = Annotated[
    bool, Parameter(help="Execute the run's recipe.py although it is no installed recipe.", group=FOLDER, negative="")
]

SECTION_GROUPS = {"reading": PICTURES, "schedule": TRAINING, "watching": TRAINING, "folder": FOLDER, "machine": MACHINE}
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


def asked_devices(words: Sequence[str]) -> int:
    """How many processes this command line is to be run in; 1 in a process that was already started with others."""
    shares = words[:1] in (["train"], ["resume"], ["sample"], ["evaluate"])
    if not shares or together() or {"--help", "-h", "--dry-run"} & {*words}:
        return 1
    number = typed(words).get("--devices", "1")
    if number.lstrip("-").isdigit() and int(number) < 1:
        raise LeafwingError(f"--devices {number}: at least 1 is needed")
    return int(number) if number.isdigit() else 1  # what is no number at all is named where all options are read


def typed(words: Sequence[str]) -> dict[str, str]:
    """Each word with its value, if it has one: behind `=`, else the next word. The first of equal ones counts."""
    found: dict[str, str] = {}
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        found.setdefault(name, value if equals else after)
    return found


def train_command(recipe: str | None) -> Callable[..., int]:
    """The command `train` with the options of a recipe, read from the recipe's text."""

    def train(source: str | None = None, **given: Any) -> int:
        return _train(source, given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    source = Annotated[str | None, Parameter(help="A folder, a .zip or .tar, IDX files, or digits, ring, grid.")]
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
    train.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    train.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    train.__doc__ = title
    return train


def setting_flag(setting: Setting) -> Any:
    """A setting as a flag without a default of its own: what is not typed is the replayed run's, or the setting's default.

    Counts and durations are text here: 200k, 10m.
    """
    about = Parameter(help=setting.help, group=SECTION_GROUPS[setting.section], show_default=False)
    if setting.choices:
        return Annotated[Literal[setting.choices] | None, about]
    numbers = {Natural: int, Positive: int, int: int, bool: bool}
    return Annotated[numbers.get(setting.type, str) | None, about]


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


def finish(run: Any, as_json: bool) -> int:
    """The end of `train` and `resume`: the reel, and what there is to see and to do."""
    from leafwing import commands, health

    code = {"asked": INTERRUPTED, "unhealthy": UNHEALTHY}.get(run.done, 0)
    if not speaks():
        return INTERRUPTED if run.done == "asked" else 0
    records = run.records()
    last = records[-1]
    images = last["images"]
    made = {
        "run": str(run.folder),
        "images": images,
        "seconds": last["seconds"],
        "done": run.done,
        "samples": str(run.samples / f"{images:09d}.png"),
        "reel": str(commands.reel(run.folder)),
        "weights": str(run.weights()[images]),
        "best": asdict(run.history.best) if run.history.best else None,
        "alarms": [asdict(alarm) for alarm in health.alarms(records)],
        "rolled_back": [record["rolled_back"] for record in records if "rolled_back" in record],
    }
    if as_json:
        print(json.dumps(made, indent=2))
    else:
        stopped = code or run.done in ("no_better", "seconds")
        print(f"{'stopped after' if stopped else 'trained on'} {images:,} images in {show_duration(last['seconds'])}")
        print(f"  run      {made['run']}\n  samples  {made['samples']}\n  reel     {made['reel']}")
        print(f"  health   {health.summary(records)}")
        if best := made["best"]:
            print(f"  best     {best['metric']} {best['value']:.4g} at {best['images']:,} images (--images best)")
        total = run.settings.schedule.images
        more = "" if images < total else f" --images +{show_count(total)}"
        command = called()
        trust = "" if run.recipe_is_installed() else " --trust"
        go_on = f"  {command} resume {run.folder}{more}{trust}"
        what = "-n 10 --label all" if "label" in run.config["conditions"] else "-n 64"
        if "attributes" in run.config["conditions"]:
            first = run.spec.attributes[0]
            what += f" --set '{first if '=' in first else first + '=1'}'"
        cut_short = run.done == "seconds" and images < total
        print("try next:" if cut_short else f"try next:\n{go_on}")
        print(f"  {command} sample {run.folder} {what} --seed 3{trust}")
        if cut_short:
            print(
                f"warning: the time limit ended this training after {images:,} of {total:,} images, so the pictures may be poor. "
                f"To show the rest:\n{go_on}"
            )
    return code


def speaks() -> bool:
    """Whether this is the process that prints: the only one, or the first of several."""
    return not together() or os.environ.get("RANK") == "0"


def together() -> bool:
    """Whether this process was started with others, by torchrun or by `--devices`."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def called() -> str:
    """How the user can call this command again: after `make demo` no environment is activated."""
    if shutil.which("leafwing"):
        return "leafwing"
    return sys.argv[0] if Path(sys.argv[0]).stem == "leafwing" else f"{sys.executable} -m leafwing"


def resume(
    run: str,
    /,
    *,
    images: Annotated[str | None, Parameter(help="A new total, or +100k for so many more.", group=TRAINING)] = None,
    time: Annotated[str | None, Parameter(help="Stop at so much training time in all, or +10m.", group=TRAINING)] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None, Parameter(help="Go on somewhere else.", group=MACHINE)
    ] = None,
    threads: Annotated[str | None, Parameter(help="CPU threads, or auto. Default: as before.", group=MACHINE)] = None,
    micro_batch: Annotated[int | None, Parameter(help="Images at a time. Default: as before.", group=MACHINE)] = None,
    health: Annotated[
        Literal["warn", "stop", "roll_back", "off"] | None,
        Parameter(help="When training falls ill. Default: as before.", group=TRAINING),
    ] = None,
    roll_backs: Annotated[
        int | None, Parameter(help="How often training may go back in all. Default: as before.", group=TRAINING)
    ] = None,
    devices: Devices = 1,
    trust: Trust = False,
    tensorboard: Annotated[bool, Parameter(help="Write TensorBoard files too.", group=OUTPUT, negative="")] = False,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Go on with a run exactly where its last checkpoint is.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    done = commands.resume(
        run,
        images=images,
        time=time,
        device=device,
        threads=threads,
        micro_batch=micro_batch,
        health=health,
        roll_backs=roll_backs,
        trust=trust,
        tensorboard=tensorboard,
        root=root,
        progress=Screen(),
    )
    return finish(done, json)


def sample(
    run: str,
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"], help="How many; with --label all, of each class.", group=OUTPUT)] = 64,
    seed: Annotated[int, Parameter(help="Which ones.", group=OUTPUT)] = 0,
    label: Annotated[str | None, Parameter(help="A class by name or index, or all: a row per class.", group=OUTPUT)] = None,
    set: Annotated[
        list[str] | None,
        Parameter(help="An attribute: smiling=1, colour=red. May be repeated.", group=OUTPUT, negative=""),
    ] = None,
    sweep: Annotated[
        str | None, Parameter(help="A named part of the latent: code0=-2:2, or category. A row a latent.", group=OUTPUT)
    ] = None,
    images: Annotated[str | None, Parameter(help="Which checkpoint. Default: the newest.", group=FOLDER)] = None,
    grid: Annotated[bool, Parameter(help="One picture of all (the default).", group=OUTPUT, negative="")] = False,
    folder: Annotated[bool, Parameter(help="One PNG each.", group=OUTPUT, negative="")] = False,
    npz: Annotated[bool, Parameter(help="One .npz file: samples and labels.", group=OUTPUT, negative="")] = False,
    out: Annotated[Path | None, Parameter(help="Where to. Default: into the run's samples folder.", group=OUTPUT)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Where to compute.", group=MACHINE)] = "cpu",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Parameter(
            help="bf16: nearly the same pictures, faster where the hardware computes it; auto: bf16 there.", group=MACHINE
        ),
    ] = "fp32",
    compile: Annotated[
        bool, Parameter(help="torch.compile the networks: takes long once, pays on some GPUs.", group=MACHINE, negative="")
    ] = False,
    devices: Devices = 1,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Write samples of a run: neither the data nor the cache is needed.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    kinds = [name for name, wanted in (("grid", grid), ("folder", folder), ("npz", npz)) if wanted]
    if len(kinds) > 1:
        raise LeafwingError(f"--{kinds[0]} and --{kinds[1]}: choose one")
    kind = kinds[0] if kinds else "grid"
    made = commands.sample(
        run,
        n,
        seed=seed,
        label=label,
        attributes=set or (),
        sweep=sweep,
        images=images,
        kind=kind,
        out=out,
        device=device,
        precision=precision,
        compile=compile,
        trust=trust,
        root=root,
        progress=Screen(),
    )
    if not speaks():
        return 0
    about = {"written": str(made), "kind": kind, "n": n, "seed": seed, "label": label, "set": set or [], "sweep": sweep}
    print(as_json(about) if json else made)
    return 0


def reel(
    run: str,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="A .webp, .gif or .mp4 file. Default: reel.webp in the run.", group=OUTPUT)
    ] = None,
    seconds: Annotated[float, Parameter(help="How long it lasts.", group=OUTPUT)] = 6.0,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """The progress of a run as an animation.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    made = commands.reel(run, out=out, seconds=seconds, root=root)
    if not speaks():
        return 0
    print(as_json({"written": str(made)}) if json else made)
    return 0


def runs(*, root: Root = Path("runs"), json: Json = False) -> int:
    """A table of the runs."""
    from leafwing import commands

    found = commands.table(root)
    if json:
        print(as_json(found))
    elif not found:
        print(f"no runs under {root}")
    else:
        lines: list[tuple[str, ...]] = [("run", "recipe", "data", "size", "images", "time", "costs")]
        for one in found:
            if "error" in one:
                lines.append((one["run"], one["error"], "", "", "", "", ""))
                continue
            shown = f"{show_count(one['images'])}/{show_count(one['of'])}"
            costs = " ".join(f"{name}={value:.3g}" for name, value in one["costs"].items())
            lines.append((one["run"], one["recipe"], one["data"], one["size"], shown, show_duration(one["seconds"]), costs))
        print(columns(lines))
    return 0


def list_recipes(*, json: Json = False) -> int:
    """The recipes: name, year, paper and one line each."""
    cards = recipes.catalogue()
    if json:
        plain = [
            {
                "name": card.name,
                "title": card.title,
                "authors": card.authors,
                "year": card.year,
                "paper": card.paper,
                "line": card.line,
                "options": {o.name: {"default": o.default, "help": o.help, "choices": o.choices} for o in card.options},
            }
            for card in cards
        ]
        print(as_json(plain))
    else:
        for card in cards:
            print(f"{card.name:12} {card.year}  {card.paper}\n{'':18} {card.line}")
    return 0


def doctor(
    source: str,
    /,
    *,
    size: Annotated[str | None, Parameter(help="The size you mean to train at: 64, 64x96.", group=PICTURES)] = None,
    channels: Annotated[int | None, Parameter(help="1 grey, 3 RGB, 4 RGBA.", group=PICTURES)] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None, Parameter(help="How pictures are made to fit.", group=PICTURES)
    ] = None,
    background: Annotated[str | None, Parameter(help="Colour behind transparency and padding.", group=PICTURES)] = None,
    json: Json = False,
) -> int:
    """What is in a source of pictures, what will be rejected and why, and advice. Never changes it.

    Parameters
    ----------
    source
        A folder, a .zip or .tar, IDX files, or digits, ring, grid.
    """
    from leafwing import commands

    report = commands.doctor(source, size=size, channels=channels, fit=fit, background=background, progress=Screen())
    print(as_json(report.as_dict()) if json else report.text())
    return 0


def as_json(value: Any) -> str:
    """One JSON document."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def columns(lines: list[tuple[str, ...]]) -> str:
    """Lines of cells, aligned."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


LATER = {
    "show": ("leafwing.commands.show_typed:show", "A sheet of a source as training will see it."),
    "evaluate": ("leafwing.commands.evaluate_typed:evaluate", "Numbers about what a run makes, with their protocol."),
    "compare": ("leafwing.commands.comparison.typed:compare", "Recipes over seeds under one protocol, in one honest page."),
    "explore": ("leafwing.commands.explore_typed:command", "Look into a run: what has it learnt?"),
}
"""Commands that are loaded when they are first asked for: where they are, and what the list of commands says of them.

`explore` is made anew for the tool that is asked for, so this entry is only ever listed."""


def commands_for(words: Sequence[str]) -> App:
    """The whole command line, in which `train` has the options of the recipe that is asked for, and `explore` those of the tool."""
    app = App(
        name="leafwing",
        version=__version__,
        help="From a folder of pictures to a trained, measured, explained and shippable GAN.",
        version_flags=["--version"],
    )
    app.command(train_command(asked_recipe(words) if words[:1] == ["train"] else None), name="train")
    for command in (resume, sample, reel, runs, doctor):
        app.command(command)
    for name, (place, line) in LATER.items():
        if name != "explore" or words[:1] != ["explore"]:
            app.command(place, name=name, help=line)
    if words[:1] == ["explore"]:
        from leafwing.commands.explore_typed import command as explore

        app.command(explore(words[1:]), name="explore")
    app.command(list_recipes, name="recipes")
    return app


if __name__ == "__main__":
    main()
