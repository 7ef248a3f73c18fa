"""Calls from Python that are wrong: every public function and method says what to write, and no TypeError comes from inside."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bare_run
import leafwing
import saved_run
from leafwing import cli, recipes
from leafwing.calls import checked, hints_of, kinds_of
from leafwing.commands.transfer import find_start
from leafwing.errors import LeafwingError
from leafwing.option_names import in_python
from leafwing.recipes import build, find
from leafwing.settings import all_settings
from tiny import PICTURES

FUNCTIONS = [name for name in leafwing.__all__ if inspect.isfunction(getattr(leafwing, name))]
METHODS = [
    (cls, name)
    for cls in (leafwing.Model, leafwing.Run)
    for name, member in vars(cls).items()
    if not name.startswith("_") and inspect.isfunction(member)
]


@pytest.fixture(scope="module")
def model() -> leafwing.Model:
    options = {"width": 4, "max_width": 4, "latent": 2}
    return leafwing.Model(build("dcgan", find("dcgan"), PICTURES, options), PICTURES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_refuses_an_argument_that_it_does_not_have(name: str, tmp_path: Path) -> None:
    function = getattr(leafwing, name)
    parameters = inspect.signature(function).parameters
    required = [
        item.name for item in parameters.values() if item.default is item.empty and item.kind is not item.VAR_KEYWORD
    ]
    run = bare_run.untrained(tmp_path / "run", "dcgan", {"width": 4, "max_width": 4, "latent": 2}, PICTURES).folder
    valid = {"source": "digits", "recipe": "dcgan", "recipes": "dcgan", "run": run, "tool": "mix", "out": tmp_path / "new"}
    given = dict.fromkeys(required, "digits") | {name: value for name, value in valid.items() if name in parameters}
    with pytest.raises(LeafwingError, match="no_such_argument"):
        function(**given, no_such_argument=1)
    if required:
        with pytest.raises(LeafwingError, match=f"{name} needs {required[0]}"):
            function()


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name in FUNCTIONS])
def test_options_that_only_the_command_line_has_are_answered_with_what_is_written_instead(name: str, tmp_path: Path) -> None:
    function = getattr(leafwing, name)
    parameters = inspect.signature(function).parameters
    known = {*parameters} | (
        {*all_settings()} if any(item.kind is item.VAR_KEYWORD for item in parameters.values()) else set()
    )
    arguments = cli.commands_for([name])[name].assemble_argument_collection()
    flags = {flag for argument in arguments for flag in argument.names if flag.startswith("--")}
    options = {flag[2:].replace("-", "_") for flag in flags if not flag.startswith("--no-")}
    options -= known | {option.name for card in recipes.catalogue() for option in card.options} | {"OPTION"}
    assert "json" in options
    run = bare_run.untrained(tmp_path / "run", "dcgan", {"width": 4, "max_width": 4, "latent": 2}, PICTURES).folder
    valid = {
        "source": "digits",
        "recipes": "dcgan",
        "run": run,
        "tool": "mix",
        "pictures": tmp_path,
        "out": tmp_path / "new",
    }
    given = {name: value for name, value in valid.items() if name in parameters}
    for option in options:
        assert (instead := in_python(name, option)), option
        with pytest.raises(LeafwingError) as error:
            function(**given, **{option: "x"})
        assert f"no argument {option!r}: {instead}" in str(error.value).replace("mix has no option", "mix has no argument")


@pytest.mark.parametrize(("cls", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_every_method_refuses_what_its_signature_does_not_have(cls: type, name: str) -> None:
    method = getattr(cls, name)
    with pytest.raises(LeafwingError, match=rf"{cls.__name__}\.{name} takes \d arguments? without a name, not 20"):
        method(object(), *range(20))


def test_a_near_name_is_suggested(tmp_path: Path) -> None:
    for arguments in ({"imags": "20k"}, {"imags": "20k", "recipe": "dcgan"}):
        with pytest.raises(LeafwingError, match=r"train has no option 'imags'; did you mean images\?"):
            leafwing.train("digits", out=tmp_path / "run", **arguments)
    with pytest.raises(LeafwingError, match=r"evaluate has no argument 'metric'; did you mean metrics\?"):
        leafwing.evaluate("last", metric="fid")  # type: ignore[call-arg]
    with pytest.raises(LeafwingError, match="compare has no argument 'algorithms': write recipes="):
        leafwing.compare("digits", algorithms="dcgan,lsgan")  # type: ignore[call-arg]
    with pytest.raises(LeafwingError, match=r"doctor has no argument 'sise'; did you mean size\?"):
        leafwing.doctor("digits", sise=3)
    with pytest.raises(LeafwingError, match="show has no argument 'images'"):
        leafwing.show("digits", images=3)


def test_a_value_of_another_kind_is_refused_with_what_to_write(model: leafwing.Model) -> None:
    with pytest.raises(LeafwingError, match=r"Model: game='last': must be a Game, not str\..*Model.load\(\"last\"\)"):
        leafwing.Model("last", PICTURES)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"Model needs spec\..*Model.load\(\"last\"\) opens"):
        leafwing.Model("last")  # type: ignore[call-arg,arg-type]
    with pytest.raises(LeafwingError, match=r"Model.generate: latents=4: must be a Tensor, not int\..*model.latents"):
        model.generate(4)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"Model.sample: n='many': must be a number, not str"):
        model.sample("many")  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"Model.sample: n=\[3\]: must be a number, not list"):
        model.sample([3])  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"Model.sample got seed twice"):
        model.sample(3, 4, seed=5)  # type: ignore[misc]


@pytest.mark.parametrize("images", [np.zeros((2, 16, 16, 3)), torch.zeros(2, 3, 16, 16), [Image.new("RGB", (16, 16))] * 99])
def test_images_from_python_where_only_paths_are_read_are_refused_in_short(images: Any, tmp_path: Path) -> None:
    run = bare_run.create(tmp_path / "run")
    for call in (
        lambda: leafwing.evaluate(run, data=images),
        lambda: leafwing.explore(run, "interpolate", data=images),
        lambda: leafwing.score(run, images),
        lambda: leafwing.translate(run, images),
        lambda: leafwing.evaluate_pictures(images, tmp_path),
        lambda: leafwing.compare(images, "dcgan"),
    ):
        with pytest.raises(LeafwingError, match=r"must be text or a path.*numpy.save\('images.npy', images\)") as error:
            call()
        assert len(str(error.value)) < 600


def test_a_model_is_no_run(model: leafwing.Model, tmp_path: Path) -> None:
    for call in (
        lambda: leafwing.evaluate(model),  # type: ignore[arg-type]
        lambda: leafwing.sample(model, 16),  # type: ignore[arg-type]
        lambda: leafwing.train(replay=model),  # type: ignore[arg-type]
        lambda: leafwing.train_or_resume(replay=model, out=tmp_path / "run"),
        lambda: leafwing.Model.load(model),  # type: ignore[arg-type]
    ):
        with pytest.raises(
            LeafwingError, match=r"must be text or a path or a Run.*not Model; a Model does not know its folder"
        ):
            call()
    for value in (["a"], None, object()):
        with pytest.raises(
            LeafwingError, match=r"sample: run=.*: must be text or a path or a Run, not \w+\. run: the run, its"
        ):
            leafwing.sample(value)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match="no run '7'"):
        leafwing.sample(np.int64(7), root=tmp_path)  # type: ignore[arg-type]


def test_a_list_of_files_is_not_an_array(tmp_path: Path) -> None:
    run = bare_run.create(tmp_path / "run")
    for call in (
        lambda: leafwing.score(run, ["a.png"]),  # type: ignore[arg-type]
        lambda: leafwing.translate(run, (Path("a.png"),)),  # type: ignore[arg-type]
    ):
        with pytest.raises(LeafwingError, match=r"not (list|tuple); give the folder, or an archive, that has these files"):
            call()
    with pytest.raises(LeafwingError, match=r"out=\['a'\]: must be text or a path or None, not list\. out: output path"):
        leafwing.sample(run, out=["a"])  # type: ignore[arg-type]


def test_a_path_or_a_device_may_stand_for_text(model: leafwing.Model, tmp_path: Path) -> None:
    """Of settings too; see `test_settings`."""
    with pytest.raises(LeafwingError, match=r"no recipe file .*mine.py"):
        leafwing.train("digits", tmp_path / "mine.py")  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"train: recipe='<function .*': must be text or None, not function. recipe: an"):
        leafwing.train("digits", find("dcgan"))  # type: ignore[arg-type]
    run = saved_run.save(tmp_path / "run", PICTURES, saved_run.PLAIN)
    assert leafwing.Model.load(run, device=torch.device("cpu"), trust=True).device.type == "cpu"  # type: ignore[arg-type]


def test_numbers_may_be_text(model: leafwing.Model) -> None:
    assert torch.equal(model.sample("2", seed="3"), model.sample(2, seed=3))  # type: ignore[arg-type]
    assert model.grid("4").size == model.grid(4).size  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a run `0001-mine`; the current folder is another one."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    saved_run.save(folder / "0001-mine", PICTURES, saved_run.PLAIN)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_the_folder_of_the_user_may_be_written_as_in_a_shell(home: Path) -> None:
    assert leafwing.Model.load("~/0001-mine", trust=True).images == saved_run.IMAGES
    assert leafwing.Model.load(1, root=Path("~"), trust=True).images == saved_run.IMAGES  # type: ignore[arg-type]
    assert [row["run"] for row in leafwing.list_runs("~")] == ["0001-mine"]
    written = leafwing.sample("~/0001-mine", 2, out="~/new/x.png", trust=True, progress=False)
    assert written == home / "new" / "x.png"
    assert written.is_file()
    film = leafwing.Model.load("1", root="~", trust=True).film(2, seconds=0.1)
    assert film.save("~/f.webp") == home / "f.webp"
    assert find_start(f"~/0001-mine@{saved_run.IMAGES}")[0].folder == home / "0001-mine"
    assert bare_run.create(Path("~/other")).folder == home / "other"
    assert list(Path().iterdir()) == []


def test_a_user_that_does_not_exist_is_the_name_of_a_folder() -> None:
    for call in (
        lambda: leafwing.doctor("~nobody-at-all/x"),
        lambda: leafwing.train("digits", "~nobody-at-all/x.py"),
        lambda: leafwing.translate("~nobody-at-all/x", "y"),
    ):
        with pytest.raises(LeafwingError, match="~nobody-at-all/x"):
            call()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_paths_are_annotated_as_paths(name: str) -> None:
    """Only these are examined."""
    hints = hints_of(inspect.unwrap(getattr(leafwing, name)))
    for argument in {"run", "root", "out", "replay", "weights"} & hints.keys():
        assert Path in (kinds_of(hints[argument]) or ()), argument


def test_the_command_line_expands_what_shells_leave(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", "~/0001-mine", "-n", "2", "--out=~/y.png", "--trust"]) == 0
    assert cli.run(["runs", "--root=~/"]) == 0
    out, err = capsys.readouterr()
    assert f"{home / 'y.png'}\n" in out
    assert "0001-mine" in out, err
    assert list(Path().iterdir()) == []


def test_arguments_that_need_a_name_are_not_counted_as_those_without() -> None:
    @checked
    def example(first: int, *, second: int = 0, third: int) -> tuple[int, int, int]:
        return first, second, third

    for call, message in (
        (lambda: example(1, 2, third=3), "example takes 1 argument without a name, not 2"),  # type: ignore[misc]
        (lambda: example(1, first=2, third=3), "example got first twice, by its place and by its name"),  # type: ignore[misc]
        (lambda: example(1), "example needs third"),  # type: ignore[call-arg]
        (lambda: example(), "example needs first and third"),  # type: ignore[call-arg]
    ):
        with pytest.raises(LeafwingError, match=message):
            call()


def test_what_a_signature_cannot_say_is_not_examined() -> None:
    @checked
    def example(first: Any, *rest: int, second: Path | None = None, **others: bool) -> tuple[Any, ...]:
        return first, rest, second, others

    assert example([1], "a", second="x", third="y") == ([1], ("a",), "x", {"third": "y"})
    assert inspect.signature(example).parameters["second"].default is None
    with pytest.raises(LeafwingError, match="second=3: must be a path or None, not int"):
        example(1, second=3)  # type: ignore[arg-type]
