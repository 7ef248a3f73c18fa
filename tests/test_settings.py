"""Settings are defined once: flags, checks, help and the sections of run.json follow from their classes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import bare_run
from leafwing import cli, commands, settings
from leafwing.cli.shared import with_settings
from leafwing.cli.train import command as train_command
from leafwing.errors import LeafwingError
from leafwing.recipes import find
from leafwing.settings import (
    HardwareSettings,
    HealthSettings,
    Settings,
    all_settings,
    non_defaults,
    replace_fields,
    split_keywords,
)

CLI = sorted(Path(cli.__file__).parent.glob("*.py"))
HOMONYMS = {"compile", "images", "seed"}
"""Options of other commands that share a name with a setting of `train`, but mean something else there."""
FILMS = {"reel": {"size"}, "walk": {"size"}}
"""The same, in single commands: the size of a film."""
TEXTS = [setting for setting in all_settings().values() if setting.is_text]
CLOSED = [setting for setting in all_settings().values() if setting.is_closed]


@pytest.mark.parametrize("path", CLI, ids=lambda path: path.stem)
def test_no_command_declares_a_setting_or_its_choices_again(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "command"]
    declared = {argument.arg for node in functions for argument in [*node.args.args, *node.args.kwonlyargs]}
    assert not (declared & all_settings().keys()) - HOMONYMS - FILMS.get(path.stem, set()), "use with_settings"
    choices = [set(setting.choices) for setting in all_settings().values() if setting.choices]
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Tuple | ast.List):
            texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            assert not any(values <= texts for values in choices), "choices are declared in settings.py"


def test_every_setting_is_an_option_of_train() -> None:
    signature = inspect.signature(train_command(["digits"]))
    assert all_settings().keys() <= signature.parameters.keys()
    assert all(signature.parameters[name].default is None for name in all_settings())


@pytest.mark.parametrize("setting", CLOSED, ids=lambda setting: setting.name)
def test_another_value_than_the_choices_is_answered_with_them(setting: settings.Setting, tmp_path: Path) -> None:
    assert all(setting.convert(choice) == choice for choice in setting.choices)
    message = f"{setting.name}='nonsense': choose from {', '.join(setting.choices)}"
    with pytest.raises(LeafwingError, match=message):
        split_keywords({setting.name: "nonsense"})
    with pytest.raises(LeafwingError, match=message):
        commands.train("digits", out=tmp_path / "run", **{setting.name: "nonsense"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", TEXTS, ids=lambda setting: setting.name)
def test_a_setting_that_is_a_text_refuses_what_is_none(setting: settings.Setting) -> None:
    for value in (["D:1"], {"D": 1}, True, ("a", "b"), np.arange(3), find):
        with pytest.raises(LeafwingError, match=rf"^{setting.name}=.*: must be text, not {type(value).__name__}\. \w"):
            split_keywords({setting.name: value})
    assert setting.convert(Path("a/b")) == "a/b"
    assert setting.convert(0.5) == "0.5"


def test_settings_that_are_text_in_a_run_take_the_objects_that_they_name(tmp_path: Path) -> None:
    run = bare_run.create(tmp_path / "run")
    values, _ = split_keywords({"start": run, "device": torch.device("cpu"), "labels": Path("a.csv")})
    assert values == {"start": str(run.folder), "device": "cpu", "labels": "a.csv"}
    with pytest.raises(LeafwingError, match=r"labels=\[0, 1\]: .* leafwing.train\(\(images, labels\), \.\.\.\)"):
        commands.train(np.zeros((2, 16, 16), np.uint8), labels=[0, 1])


def test_a_settings_object_is_checked_too(tmp_path: Path) -> None:
    wrong = Settings(watching=HealthSettings(health="pray"))  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"health='?pray'?: choose from warn, stop, rollback, off"):
        commands.train("digits", settings=wrong, out=tmp_path / "run")


def test_reading_options_are_checked_alike_by_every_command(tmp_path: Path) -> None:
    for command in (commands.doctor, commands.show, commands.train):
        with pytest.raises(LeafwingError, match=r"fit='?squash'?: choose from crop, pad, stretch"):
            command("digits", fit="squash")  # type: ignore[operator]


def test_settings_by_name_are_those_that_differ_from_the_defaults() -> None:
    changed = Settings(machine=HardwareSettings(threads=2), watching=HealthSettings(health="off"))
    assert non_defaults(Settings()) == {}
    assert non_defaults(changed) == {"health": "off", "threads": 2}
    assert replace_fields(HardwareSettings(), {"threads": 2, "health": "off"}) == HardwareSettings(threads=2)


def test_flags_keep_the_help_of_the_setting_and_may_name_another_default() -> None:
    @with_settings("fit", "device", default="as before", device="Continue on another device.")
    def command(run: str, **values: object) -> int:
        return 0

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["run", "fit", "device"]
    helps = {name: parameters[name].annotation.__metadata__[0].help for name in ("fit", "device")}
    assert helps["fit"] == all_settings()["fit"].help.replace("Default: crop.", "Default: as before.")
    assert helps["device"] == "Continue on another device. Default: as before."


@pytest.mark.parametrize("name", settings.REVOCABLE)
def test_none_turns_off_a_setting_that_a_replayed_run_may_have(name: str) -> None:
    assert all_settings()[name].convert("none") is None
    assert all_settings()["device"].convert(None) is None
    with pytest.raises(LeafwingError, match="device"):
        all_settings()["device"].convert("none")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1,000", 1000), ("60_000", 60_000), ("7", 7), (7, 7), (np.int64(500), 500), (0, 0), ("auto", "auto")],
)
def test_a_number_or_auto_is_read_as_other_numbers_are(value: object, expected: int | str) -> None:
    assert all_settings()["hold_out"].convert(value) == expected
    for wrong in (True, 0.1, "some", "٣", -1):
        with pytest.raises(LeafwingError, match="hold_out"):
            all_settings()["hold_out"].convert(wrong)
