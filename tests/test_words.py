"""What people type: words of other programs are answered with ours, and wrong words are refused before torch is imported."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import leafwing
from leafwing import cli, option_names, recipes
from leafwing.cli import synonyms
from leafwing.cli.explore import COMMON
from leafwing.commands.comparison import compare as comparing
from leafwing.game import DataSpec
from leafwing.laboratory import TOOLS
from leafwing.settings import TRAIN_ARGUMENTS, all_settings
from saved_run import save

TABLES = (synonyms.COMMANDS, synonyms.NO_COMMAND, option_names.OPTIONS, option_names.NO_OPTION, option_names.LENGTHS)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """12 pictures in one folder, without labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    output = 'Output("image", lambda nets, inputs, clock: squares(inputs.latent), ("label",), Normal(4))'
    return save(tmp_path / "run", DataSpec.images(16, 16, labels=("ant", "bee")), output)


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The message about a wrong command line, with single spaces."""
    assert cli.run([str(word) for word in words]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    return " ".join(streams.err.split())


# --- the tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=["commands", "no command", "options", "no option", "lengths"])
def test_a_word_is_in_a_table_once(table: dict[str, object]) -> None:
    words = [word for words in table for word in words.split()]
    assert len(words) == len({*words})
    assert not [word for word in words if "_" in word or word != word.lower()]


def test_the_tables_name_what_exists() -> None:
    assert {name for names in synonyms.COMMANDS.values() for name in names.split()} <= {*cli.COMMANDS, *TOOLS}
    assert {*synonyms.ARGUMENTS} <= {*cli.COMMANDS}
    ours = {option.name for card in recipes.catalogue() for option in card.options} | {*all_settings(), *TRAIN_ARGUMENTS}
    ours |= {
        "n",
        "label",
        "set",
        "data",
        "checkpoint",
        "recompute",
        "seconds",
        "recipes",
        "jobs",
    }  # of commands that do not train
    assert {name.replace("-", "_") for names in option_names.OPTIONS.values() for name in names.split()} <= ours
    assert {name for entry in option_names.NO_OPTION.values() for names in entry for name in names.split()} <= {
        *cli.COMMANDS
    }


def test_a_command_is_in_no_table() -> None:
    words = {word for table in TABLES[:2] for words in table for word in words.split()}
    assert words & {*cli.COMMANDS, *TOOLS} == set()


# --- options ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train {} --epochs 10", "--images 120 for 10 epochs of about 12 images"),
        ("train {} --n_epochs=2.5", "--images 30 for 2.5 epochs of about 12 images"),
        ("train {} --epochs 10 --hold-out 2", "--images 100 for 10 epochs of about 10 images"),
        ("train {} --epochs", "N is the number of epochs x the number of images"),
        ("train --epochs 10 {}", "N is the number of epochs x the number of images"),
        ("train digits --epochs 10", "--images 17970 for 10 epochs of 1,797 images"),
        ("train nowhere --epochs 10", "N is the number of epochs x the number of images"),
        ("train {} --steps 1000 --batch 8", "--images 8000 for 1000 steps of 8 images"),
        (
            "train {} --num-steps 100 --recipe wgan_gp",
            "steps of 64 images; if a step is one of G, with 5 of D: --images 32000",
        ),
        ("train {} --iters", "N is the number of steps x the batch size, 64 in dcgan"),
        ("train {} --kimg 25", "--images 25000 for 25 kimg"),
        ("train {} --kimg 2,5", "--images 25k for 25 kimg"),  # an example: 2,5 is no number
        ("compare {} --recipes dcgan --epochs 2", "--images 24 for 2 epochs of about 12 images"),
        ("compare {} --recipes dcgan,lsgan --set batch=8 --steps 100", "--images 800 for 100 steps of 8 images"),
        ("train {} --lr 1e-4", "use: --lr-g learning rate of G"),
        ("train {} --lr 1e-4", "--lr-d learning rate of D"),
        ("train {} --batch-size 32", "no option --batch-size; use --batch: batch size"),
        ("train {} --resolution 64", "use --size: Height and width"),
        ("train {} --gpu 0", "use --device: Device to train on"),
        ("train {} --gpus 2", "use --devices: Number of processes"),
        ("train {} --outdir x", "--root Folder that contains the numbered run folders"),
        ("train {} --name x", "--out runs/NAME"),
        ("train {} --workers 4", "decoded once into a cache"),
        ("train {} --resume", "`leafwing resume RUN` continues a run"),
        ("train --dataset {}", "the data are the first argument"),
        ("sample last --num-samples 3", "use -n: Number of samples"),
        ("sample last --truncation 0.7", "explore RUN truncate"),
        ("train {} --transparent", "--channels 4 keeps the transparency"),
        ("walk last --alpha", "if the run was trained with --channels 4"),
        ("sample last --walk 3,5,8", "walk RUN --seeds 3,5,8"),
        ("sample last --run 3", "the run is the first argument"),
        ("sample last --ckpt 3", "use --checkpoint: Checkpoint"),
        ("sample last --overwrite", "nothing is overwritten"),
        ("sample last --data x", "no option --data"),
        ("sample last --name foo", "no option --name"),
        ("evaluate last --class 3", "no option --class"),
        ("evaluate last --data-dir x", "use --data: "),
        ("evaluate last --overwrite", "use --recompute: "),
        ("translate last {} --folder x", "the pictures are the second argument"),
        ("train {} --run 3", "no option --run"),
        ("sample last --epochs 3", "no option --epochs"),
        ("train {} --widht 3", "did you mean --width?"),
    ],
)
def test_options_of_other_programs(words: str, message: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in answer(capsys, *(word.format(pictures) for word in words.split()))


def test_images_in_archives_are_counted_where_that_is_quick(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    for kind, message in (("zip", "24 for 2 epochs of about 12 images"), ("tar", "N is the number of epochs")):
        archive = shutil.make_archive(str(pictures), kind, pictures)
        assert message in answer(capsys, "train", archive, "--epochs", "2")


def test_held_out_inputs_are_not_counted(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", pictures, "--recipe", "pix2pix", "--input", "grey", "--epochs", "1")
    assert "--images 11 for 1 epochs of about 11 images" in answer(capsys, *words), "a tenth is held out"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"epochs": 10},
            "no option epochs: the length of training is counted in images shown: images=120 for 10 epochs of about 12 images",
        ),
        ({"epochs": 10, "hold_out": 2}, "images=100 for 10 epochs of about 10 images"),
        ({"steps": 10}, "images=640 for 10 steps of 64 images"),
        (
            {"steps": 10, "recipe": "wgan_gp", "batch": 8},
            "images=80 for 10 steps of 8 images; if a step is one of G, with 5",
        ),
        ({"lr": 1e-4}, "no option lr; use: lr_g initial learning rate"),
        ({"lr": 1e-4, "recipe": "dcgan"}, "lr_d learning rate of D"),
        ({"batch_size": 8}, "no option batch_size; use batch: batch size"),
        ({"outdir": "x"}, "use: out The run folder"),
        ({"config": "x"}, "use replay: "),
        ({"name": "x"}, 'a run is named by its folder: out="runs/NAME"'),
        ({"resume": True}, "`leafwing resume RUN` continues a run; start=RUN begins a new one"),
        ({"widht": 8}, "did you mean width?"),
        ({"widht": 8, "recipe": "dcgan"}, "did you mean width?"),
    ],
)
@pytest.mark.parametrize("call", [leafwing.train, leafwing.forecast])
def test_options_of_other_programs_from_python(
    call: Callable[..., Any], options: dict[str, Any], message: str, pictures: Path
) -> None:
    with pytest.raises(leafwing.LeafwingError) as error:
        call(pictures, **options)
    text = " ".join(str(error.value).split())
    assert message in text
    assert "--" not in text.replace("`leafwing train --recipe X --help`", "")


def test_options_of_other_programs_for_other_calls(pictures: Path, run: Path) -> None:
    with pytest.raises(leafwing.LeafwingError, match=r'images="\+18" for 2 more epochs of 9 images'):
        leafwing.resume(run, epochs=2, trust=True)
    with pytest.raises(leafwing.LeafwingError, match="images=24 for 2 epochs of about 12 images"):
        leafwing.compare(pictures, "dcgan", epochs=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs 2", "--images +18 for 2 more epochs of 9 images"),
        ("--steps 2", "--images +16 for 2 more steps of 8 images"),
        ("--batch-size 2", "use --batch"),
        ("--gpu 2", "use --device"),
        ("--horse 2", "no such option"),
    ],
)
def test_options_of_other_programs_for_resume(
    words: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in answer(capsys, "resume", run, "--trust", *words.split())


# --- commands ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("generate", "use leafwing sample RUN: Generate samples"),
        ("train-gan", "use leafwing train SOURCE"),
        ("train_gan", "use leafwing train SOURCE"),
        ("predict", "leafwing translate RUN PICTURES Generate pictures from pictures"),
        ("ls", "use leafwing runs"),
        ("interpolate", "use leafwing explore RUN interpolate: interpolate latents"),
        ("gif", "leafwing reel RUN Film the training progress"),
        ("export", "there is no export to other formats yet"),
        ("upscale", "--recipe srgan --input low4"),
        ("plot", "there is no plot of a single run yet"),
        ("trian", "did you mean train? Available: train, resume"),
        ("TRAIN", "did you mean train?"),
    ],
)
def test_unknown_commands(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in answer(capsys, word, "something")


def test_a_path_without_a_command(pictures: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"the command comes first, such as leafwing train {shlex.quote(str(pictures))}" in answer(capsys, pictures)
    assert f"the command comes first, such as leafwing sample {shlex.quote(str(run))}" in answer(capsys, run)


def test_train_alone_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert "leafwing train digits --images 20k" in answer(capsys, "train")
    assert "leafwing train digits" in answer(capsys, "train", "--recipe", "wgan_gp")


# --- explore and compare ----------------------------------------------------------------------------------------------------


def test_a_tool_has_its_page_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    pages = {}
    for words in (["interpolate"], ["last", "interpolate"], ["edit"]):
        assert cli.run(["explore", *words, "--help"]) == 0
        pages[words[-1]] = capsys.readouterr().out
        assert "Usage: leafwing explore RUN " + words[-1] in pages[words[-1]]
    assert "--interpolation" in pages["interpolate"]
    assert "--features" in pages["interpolate"]
    assert "--interpolation" not in pages["edit"]
    assert "--features" not in pages["edit"], "it compares no images"
    assert "--data" not in pages["edit"]
    assert "leafwing explore RUN interpolate" in answer(capsys, "explore", "interpolate")
    assert "leafwing explore RUN interpolate" in answer(capsys, "explore", "interpolate", "last")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of calls of `compare`, which does nothing."""
    calls: list[dict[str, Any]] = []

    def record(*arguments: Any, **options: Any) -> dict[str, Any]:
        calls.append(options)
        return {}

    monkeypatch.setattr(comparing, "compare", record)
    return calls


def test_compare_has_the_options_of_all_recipes(compared: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    words = "compare digits --recipes dcgan,wgan_gp --width 8 --lr-g 1e-3 --set wgan_gp.penalty=5 --threads 2 --json"
    assert cli.run(words.split()) == 0
    assert compared[0]["options"] == ["width=8", "lr_g=1e-3", "wgan_gp.penalty=5"]
    assert compared[0]["threads"] == 2
    capsys.readouterr()
    assert cli.run(["compare", "--recipes", "dcgan,wgan_gp", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "Options of dcgan and wgan_gp" in page
    assert "Default: 128 (dcgan), 64 (wgan_gp)." in page, "the batch size"
    assert "--penalty" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--recipes dcgan,wgan_gp --penalty 3", "--penalty: dcgan has no such option. For the others: --set penalty=VALUE"),
        ("--recipes dcgan,lsgan,r3gan --gamma 3", "dcgan and lsgan have no such option"),
        ("--recipes dcgan,lsgan --penalty 3", "no option --penalty"),
        ("--recipes dcgan --width 3 --set width=4", "--set width=4: this option is given twice"),
        ("--recipes dcgn", "did you mean dcgan"),
    ],
)
def test_options_that_not_all_recipes_have(
    words: str, message: str, compared: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in answer(capsys, "compare", "digits", *words.split())
    assert compared == []


# --- before torch -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import contextlib, io, json, sys
from leafwing.cli import run
for words in json.loads(sys.argv[1]):
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        code = run(words)
    print(json.dumps([code, "torch" in sys.modules, text.getvalue()]))
"""
WRONG = {
    "train nowhere": "no such file or folder",
    "train {pictures} --recipe wgangp": "did you mean wgan_gp",
    "train {pictures} --recipe ./nothing.py": "no recipe file",
    "train {pictures}/3.png": "3.png",
    "train {pictures} --widht 3": "--width",
    "train {pictures} --epochs 3": "--images 36",
    "train {pictures} --lr 3": "--lr-g",
    "train {pictures} --images many": "--images many",
    "train {pictures} --size 64x": "--size 64x",
    "train {pictures} --width wide": "--width wide",
    "train {pictures} --labels none.csv": "--labels none.csv: not a file of this source",
    "train {pictures} --input nothing": "--input nothing",
    "train {pictures} --patience 3": "needs --stop-on",
    "train {pictures} --stop-on fdi": "did you mean fid",
    "train {pictures} --start nothing": "no run 'nothing'",
    "train {pictures} --from nothing": "must be a run folder",
    "train {pictures} --out {run}": "never overwritten",
    "train {pictures} --verbose": "--verbose: only with --dry-run",
    "train {pictures} --augment dif": "--augment dif: choose from none, diff",
    "train {pictures} --augment diff:colour": "did you mean color",
    "train {pictures} --hold-out lots": "--hold-out lots: must be a whole number of at least 0, or auto",
    "train {pictures} --threads two": "--threads two: must be a whole number of at least 1 and at most 4,096, or auto",
    "train {pictures} --device gpu": "--device gpu: choose from auto, cpu, cuda, mps",
    "train {pictures} --freeze D": "--freeze D: must be players",
    "train digits --labels folders": "only to your own files",
    "train {pictures} --dry-run --fields box": "only the built-in sprites",
    "resume nothing": "no run 'nothing'",
    "resume {run} --horse 3": "no such option",
    "resume {run} --images many": "--images many",
    "sample nothing": "no run 'nothing'",
    "sample {run} --label horse": "no class 'horse'; available: ant, bee",
    "sample {run} --set smiling=1": "no condition 'smiling'",
    "sample {run} --checkpoint 7": "no checkpoint at 7 images",
    "sample {run} --out {run}": "exists: choose another --out",
    "sample {run} -n 0": "-n 0",
    "sample {run} --scale 0": "--scale 0",
    "sample {run} --seeds abc": "--seeds abc",
    "sample {run} --seeds 3 --scale 0": "--scale 0",
    "sample {run} --sweep code0=1": "--sweep code0=1",
    "sample {run} --out a.jpg": "--out a.jpg: a grid is written as .png",
    "sample {run} --npz --out a.png": "should end in .npz",
    "translate {run} {pictures} --tile x": "--tile x: write auto, whole",
    "translate {run} {pictures} --samples 0": "--samples 0",
    "score {run} {pictures} --seed -1": "--seed -1",
    "translate {run} nowhere": "no such file or folder",
    "score {run} nowhere": "no such file or folder",
    "reel nothing": "no run 'nothing'",
    "evaluate nothing": "no run 'nothing'",
    "evaluate {run} --metrics fdi": "did you mean fid",
    "evaluate {run} --checkpoint 7": "no checkpoint at 7 images",
    "evaluate {run} --features inceptoin": "did you mean inception",
    "evaluate {run} --data nowhere": "no such file or folder",
    "evaluate {run} -n many": "-n many",
    "evaluate {pictures} --data {pictures} --features inceptoin": "did you mean inception",
    "evaluate {pictures} --data {pictures} --metrics ppl": "metric ppl needs a run",
    "evaluate {pictures} --data {pictures} --size x": "--size x",
    "evaluate {pictures} --data nowhere": "no such file or folder",
    "explore nothing interpolate": "no run 'nothing'",
    "explore {run} interpolat": "did you mean interpolate",
    "explore {run} interpolate --stps 3": "--steps",
    "explore {run} interpolate --steps x": "--steps",
    "explore {run} interpolate --label horse": "no class 'horse'",
    "compare nowhere --recipes dcgan": "no such file or folder",
    "compare digits --recipes dcgn": "did you mean dcgan",
    "compare digits --recipes dcgan --metrics fdi": "did you mean fid",
    "compare digits --recipes dcgan --width wide": "--width wide",
    "compare digits --recipes dcgan --jobs 0": "--jobs 0",
    "compare digits --recipes dcgan --threads 0": "--threads 0",
    "compare digits --recipes dcgan --hold-out lots": "--hold-out lots",
    "compare {pictures} --recipes dcgan --labels none.csv": "--labels none.csv: not a file of this source",
    "compare {run} --recipes dcgan": "is a run, not a source of images",
    "doctor nowhere": "no such file or folder",
    "show nowhere": "no such file or folder",
    "show {pictures} --augment dif": "--augment dif: choose from none, diff",
    "show {pictures} --augment none": "there is nothing to show",
    "show {pictures} --size 64x": "--size 64x",
    "export {run}": "there is no export",
}


COMMAND_LINES = (
    "train {pictures} --recipe dcgan", "resume {run}", "sample {run}", "translate {run} {pictures}", "score {run} {pictures}",
    "reel {run}", "walk {run}", "doctor {pictures}", "show {pictures}", "evaluate {run}", "evaluate {pictures} --data {pictures}",
    "compare {pictures} --recipes dcgan", "explore {run} arithmetic",
)  # fmt: skip
"""Valid ones, one or two for each command that has options of its own."""
ACCEPTED = {"out", "root"}
"""Options for which a new path is a good value."""
LATER = {
    "sample": {"output", "sweep"},
    "translate": {"output"},
    "walk": {"output"},
    "evaluate": {"output"},
    "resume": {"source", "input"},
}
"""Options whose values only the networks of the run decide, or which are only used if the images have moved."""


def wrong_values(line: str) -> list[str]:
    """A valid command line with a bad value of each of its options that take one: a negative number, or a word of no meaning."""
    words = line.split()
    command, found = words[0], []
    for argument in cli.commands_for(words)[command].assemble_argument_collection():
        flags = [name for name in argument.names if name.startswith("--") and name not in words]
        is_left_out = not flags or flags[0][2:] in ACCEPTED | LATER.get(command, set()) | {"OPTION"}
        if is_left_out or argument.hint in (bool, bool | None) or (command == "explore" and flags[0][2:] not in COMMON):
            continue
        number = argument.hint in (int, float, int | None, float | None)
        found.append(f"{line} {flags[0]}={'-1' if number else 'xyzzy/1'}")
    return found


def test_wrong_words_are_refused_before_torch_is_imported(pictures: Path, run: Path, tmp_path: Path) -> None:
    check_lines(WRONG, pictures, run, tmp_path)


def test_a_bad_value_of_any_option_is_refused_before_torch_is_imported(pictures: Path, run: Path, tmp_path: Path) -> None:
    lines = [wrong for line in COMMAND_LINES for wrong in wrong_values(line)]
    assert {line.split()[0] for line in lines} == {line.split()[0] for line in COMMAND_LINES}
    values = {line: line.split()[-1].replace("=", " ") for line in lines}
    check_lines(
        {line: "xyzzy/1" if "xyzzy/1" in text else text.lstrip("-") for line, text in values.items()},
        pictures,
        run,
        tmp_path,
    )


def check_lines(wrong: Mapping[str, str], pictures: Path, run: Path, folder: Path) -> None:
    """Runs command lines in a process, in which each of them must be refused with its message and without torch."""
    lines = [[word.format(pictures=pictures, run=run) for word in line.split()] for line in wrong]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(wrong)
    for (line, message), (code, imported, text) in zip(wrong.items(), answers, strict=True):
        assert (code, imported) == (2, False), f"{line}: {text}"
        assert message in text, f"{line}: {text}"


def test_the_page_of_a_tool_imports_no_torch() -> None:
    code = "import sys; from leafwing.cli import run; run(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "explore", "mix", "--help"], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
