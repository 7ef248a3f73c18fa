"""What the commands share: groups of options, common options, flags of training settings, output, and error messages."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from cyclopts import Group, Parameter

from leafwing.errors import LeafwingError
from leafwing.settings import REVOCABLE, Natural, Positive, Setting, all_settings

DATA, TRAINING, FOLDER, OUTPUT, MACHINE = (
    Group(name, sort_key=key)
    for name, key in (("Data", 1), ("Training", 3), ("Run folder", 4), ("Output", 5), ("Machine", 6))
)
SECTION_GROUPS = {
    "reading": DATA, "schedule": TRAINING, "critic": TRAINING, "transfer": TRAINING, "watching": TRAINING, "folder": FOLDER,
    "machine": MACHINE,
}  # fmt: skip


def option(text: str, group: Group) -> Parameter:
    """An option with its help text; a list gets no `--empty-` form."""
    return Parameter(help=text, group=group, negative="")


def flag(text: str, group: Group) -> Parameter:
    """A flag that is off by default, with its help text; it gets no `--no-` form."""
    return Parameter(help=text, group=group, negative="", show_default=False)


RunName = Annotated[
    str,
    Parameter(
        help="The run: its folder, its name or number under --root, or 'last' for the one trained last.", show_default=False
    ),
]
Sources = Annotated[
    str,
    Parameter(
        help="A folder, a .zip or .tar archive, an array (.npy, .npz, .h5), a table (.parquet), IDX files, or a built-in data set: "
        "digits, sprites, stacked, ring, grid. Several folders, archives or files are joined, as if they lay in one folder.",
        show_default=False,
    ),
]
Conditions = Annotated[
    list[str] | None,
    option("Set a condition: smiling=1, colour=red, caption=a red star, box=.2,.2,.5,.5. Repeatable.", OUTPUT),
]
OutputField = Annotated[
    str | None, option("Field to generate, if the run generates several (for the path, see --out).", OUTPUT)
]
Json = Annotated[bool, flag("Print one JSON document to standard output and nothing else.", OUTPUT)]
Root = Annotated[Path, Parameter(help="Folder that contains the numbered run folders.", group=FOLDER)]
Devices = Annotated[int, Parameter(help="Number of processes that share the work, each with its own device.", group=MACHINE)]
Trust = Annotated[bool, flag("Execute the run's recipe.py even if it is not an installed recipe.", FOLDER)]


def setting_flag(setting: Setting, text: str = "") -> Any:
    """The annotation of a setting's flag, which has no default of its own: None means that it was not given.

    Counts and durations are text here: 200k, 10m.

    Args:
        setting: the setting.
        text: another help text than the setting's.
    """
    about = Parameter(help=text or setting.help, group=SECTION_GROUPS[setting.section], show_default=False)
    if setting.is_closed:
        return Annotated[Literal[setting.choices] | None, about]
    if setting.choices:  # --help lists them, and others such as cuda:1 are possible
        checked = Parameter(converter=lambda _, tokens: setting.convert(tokens[0].value))
        return Annotated[Literal[setting.choices] | str | None, about, checked]
    numbers = {Natural: int, Positive: int, int: int, bool: bool} if setting.name not in REVOCABLE else {}
    return Annotated[numbers.get(setting.type, str) | None, about]


def with_settings(*names: str, default: str = "", **texts: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator of a command that takes `**settings`: gives it a flag for each of these training settings.

    If its `**settings` are annotated with a help text, it takes any other option too, as text.

    Args:
        names: the settings.
        default: the default that --help shows; empty: the setting's own.
        texts: other help texts, by setting; a text may contain its own default.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        hints = get_type_hints(command, include_extras=True)
        every = [item.replace(annotation=hints[item.name]) for item in inspect.signature(command).parameters.values()]
        parameters = [item for item in every if item.kind is not inspect.Parameter.VAR_KEYWORD]
        open_ended = [item for item in every if item not in parameters and get_origin(item.annotation) is Annotated]
        for name in names:
            setting = all_settings()[name]
            text = texts.get(name, "")
            if default and "Default:" not in text:
                text = f"{text or setting.help.partition(' Default:')[0]} Default: {default}."
            annotation = setting_flag(setting, text)
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        set_signature(command, [*parameters, *open_ended])
        return command

    return decorate


def set_signature(command: Callable[..., int], parameters: Sequence[inspect.Parameter]) -> None:
    """Gives a function with keyword arguments the signature from which its options are read."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def one_or_several(sources: Sequence[str]) -> str | list[str] | None:
    """The sources of a command line as `leafwing.data.load` takes them; None without any."""
    return [*sources] if len(sources) > 1 else sources[0] if sources else None


def explicit(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the user set, without those left at None."""
    return {name: value for name, value in options.items() if value is not None}


def is_main_process() -> bool:
    """Whether this process prints: the only one, or the first of several."""
    return not is_distributed() or os.environ.get("RANK") == "0"


def is_distributed() -> bool:
    """Whether torchrun or `--devices` started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def program() -> str:
    """How the user can call leafwing again: after `make demo` no environment is activated."""
    if shutil.which("leafwing"):
        return "leafwing"
    name = Path(sys.argv[0])
    return shlex.quote(sys.argv[0]) if name.stem == "leafwing" else f"{shlex.quote(sys.executable)} -m leafwing"


def as_json(value: Any) -> str:
    """One JSON document, in characters that standard output can write."""
    return json.dumps(value, indent=2, ensure_ascii="utf" not in (getattr(sys.stdout, "encoding", None) or "").lower())


def check_order(command: str, run: str, pictures: str) -> None:
    """Raises LeafwingError if the pictures stand where the run should be."""
    is_run = pictures == "last" or (Path(pictures) / "run.json").is_file()
    if is_run and Path(run).exists() and not (Path(run) / "run.json").is_file():
        raise LeafwingError(f"{command}: the run comes first: type leafwing {command} {shlex.join([pictures, run])}")


def expand_home(word: str) -> str:
    """A word of the command line with the user's folder for `~/`, which shells replace only where a word begins: `--out=~/a.png`."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return option + equals + os.path.expanduser(value) if value.startswith("~/") else word


def option_values(words: Sequence[str]) -> dict[str, str]:
    """Each word of a command line with its value: the part after `=`, else the next word. The first of equal words counts."""
    values: dict[str, str] = {}
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        values.setdefault(name, value if equals else following)
    return values
