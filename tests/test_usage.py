"""Command lines that cannot be parsed: each answer is a sentence with the command to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from leafwing import cli, recipes


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder photos in the working folder, with three pictures; beside it a film and what looks like a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(20))
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ("sample last --folder DIR", ["--folder is on or off", "leave out 'DIR'", "--folder --out DIR", "leafwing sample --help"]),
        ("sample last --folder=DIR", ["--folder is on or off", "--folder --out DIR", "leafwing sample --help"]),
        ("sample last -o out", ["no option -o; use", "--out"]),
        ("sample last more", ["'more' is one word too many: type leafwing sample RUN"]),
        ("sample last -n five", ["-n five: must be a whole number", "leafwing sample --help"]),
        ("sample last --seed 1 2", ["--seed takes one value, 1: leave out '2'"]),
        ("sample last -n", ["-n needs a value", "leafwing sample --help"]),
        ("sample", ["missing RUN", "type leafwing sample RUN"]),
        ("sample last --horse 3", ["sample: no option --horse; `", "leafwing sample --help"]),
        ("explore last", ["missing TOOL", "type leafwing explore last directions", "leafwing explore --help"]),
        ("explore", ["missing RUN", "type leafwing explore RUN TOOL"]),
        ("compare photos --recipes dcgan lsgan wgan", ["a list has commas: write --recipes dcgan,lsgan,wgan;"]),
        ("compare photos --recipes dcgan, lsgan --seeds 2", ["write --recipes dcgan,lsgan;"]),
        ("sample last --scale 2.5", ["--scale 2.5: must be a whole number"]),
        ("train photos --recipe dcgan --seed=1.5", ["--seed 1.5: must be a whole number"]),
        ("compare photos", ["type leafwing compare SOURCE --recipes dcgan,lsgan; leafwing compare --help"]),
        ("train photos --time 20 minutes", ["write --time 20m;"]),
        ("train photos --time 2 h", ["write --time 2h;"]),
        ("train photos --size 64 64", ["write --size 64x64 (height x width)", "leafwing train --help"]),
        ("train photos --mirror yes", ["--mirror is on or off", "leave out 'yes'"]),
        ("train photos --images 5k more", ["--images takes one value, 5k: leave out 'more'"]),
        ("train photos dcgan", ["type leafwing train SOURCE --recipe dcgan"]),
        ("train photos --precision half", ["Choose from", "leafwing train --help"]),
        ("train photos/*.png", ["a pattern of file names; give the folder that has the images: photos"]),
        ("train photos/0.png photos/1.png photos/2.png", ["give the folder that has it: photos"]),
        ("train film.mp4", ["a film, not an image: make images of it first, such as ffmpeg -i"]),
        ("show run/samples", ["progress sheets of a run", "leafwing sample run --folder"]),
        ("show run", ["run is a run, not a source", "leafwing sample run"]),
        ("doctor run", ["run is a run, not a source", "leafwing sample run"]),
        ("train run --images 100", ["run is a run, not a source", "leafwing resume run", "leafwing train SOURCE --start run"]),
        ("translate photos run", ["the run comes first: type leafwing translate run photos"]),
        ("score photos last", ["the run comes first: type leafwing score last photos"]),
        ("evaluate last photos", ["type leafwing evaluate RUN --data photos"]),
        ("evaluate --json last photos", ["type leafwing evaluate RUN --data photos"]),
        ("evaluate -n 500 last photos", ["type leafwing evaluate RUN --data photos"]),
        ("evaluate --n=500 last photos", ["type leafwing evaluate RUN --data photos"]),
        ("evaluate --metrics fid last photos", ["type leafwing evaluate RUN --data photos"]),
        ("evaluate last --metrics fid kid", ["a list has commas: write --metrics fid,kid;"]),
        ("explore --json last", ["type leafwing explore last directions"]),
        ("train photos --size 64 nowhere", ["--size takes one value, 64: leave out 'nowhere'"]),
        ("train photos --epochs inf", ["--images N, where N is the number of epochs"]),
        ("prepare photos cut", ["type leafwing prepare SOURCE --landmarks --out FOLDER"]),
        ("prepare --boxes photos --out cut", ["--boxes takes photos as its list", "leafwing prepare photos --boxes --out FOLDER"]),
        ("recipes lsgan", ["type leafwing train SOURCE --recipe lsgan"]),
        ("--recipe dcgan", ["no option --recipe before a command", "leafwing --help"]),
        ("help nonsense", ["no command 'nonsense'"]),
    ],
)  # fmt: skip
def test_the_answer_names_the_command_to_type(
    words: str, messages: list[str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words.split()) == 2
    streams = capsys.readouterr()
    text = " ".join(streams.err.split())
    assert [message for message in messages if message not in text] == [], text
    assert streams.out == ""
    assert "Unused Tokens" not in text
    assert "unable to convert" not in text


@pytest.mark.parametrize(("words", "line"), [("help", "Usage: leafwing COMMAND"), ("help sample", "Usage: leafwing sample")])
def test_help_is_a_command_too(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(words.split()) == 0
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DCGAN", "did you mean dcgan?"),
        ("WGAN-GP", "did you mean wgan_gp?"),
        ("stylegan", "use https://github.com/NVlabs/stylegan3"),
        ("StyleGAN2-ADA", "use https://github.com/NVlabs/stylegan3"),
        ("diffusion", "fine-tune a pretrained diffusion model"),
        ("stable-diffusion", "leave out --recipe"),
        ("esrgan", "--recipe srgan --input low4"),
    ],
)
def test_methods_that_are_not_included(name: str, message: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "photos", "--recipe", name]) == 2
    assert message in capsys.readouterr().err


def test_methods_that_are_not_included_are_no_recipes() -> None:
    listed = [word for words in recipes.NOT_INCLUDED for word in words.split()]
    assert len(listed) == len({*listed})
    assert not {*listed} & {*recipes.names()}
    assert [word for word in listed if word != word.lower() or "-" in word] == []


def test_the_help_of_train_is_short_and_names_the_long_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {}
    monkeypatch.setenv("COLUMNS", "80")
    for words in ("--help", "--recipe lsgan --help", "--help-all", "--recipe lsgan --help-all"):
        assert cli.run(["train", *words.split()]) == 0
        pages[words] = capsys.readouterr().out
    short, of_recipe, long, long_of_recipe = pages.values()
    assert len(short.splitlines()) < 65 < 150 < len(long.splitlines())
    for name in ("recipe", "size", "time", "images", "mirror", "out", "dry-run", "labels", "hold-out", "seed", "device"):
        assert f" --{name} " in short
        assert f" --{name} " in long
    assert short.index("--recipe STR") < short.index("--size STR") < short.index("--dry-run  ")
    assert "--keep-every" not in short + of_recipe
    assert "--keep-every" in long
    assert "--lr-d" in of_recipe
    assert "--lr-d" not in short + long
    assert "--lr-d" in long_of_recipe
    assert "leafwing train --help-all" in short
    assert "--help-all" not in long
    assert cli.run(["sample", "--help-all"]) == 0
    assert "Usage: leafwing sample" in capsys.readouterr().out


def test_a_run_folder_below_a_file_is_refused_before_training(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "photos", "--out", "film.mp4/run"]) == 4
    assert "film.mp4 is a file, not a folder; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_switches_are_off_unless_they_are_named(name: str) -> None:
    arguments = cli.commands_for([name])[name].assemble_argument_collection()
    switches = [argument for argument in arguments if argument.hint in (bool, bool | None)]
    assert [argument.name for argument in switches if argument.field_info.default] == ["--loop"] * (name == "walk")


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ("train x --recipe dcgan", "Arguments, Most used options, Options of dcgan"),
        ("resume", "Arguments, Data, Training, Run folder, Output, Machine"),
        ("sample", "Arguments, Run folder, Output, Machine"),
        ("prepare", "Arguments, Data, Filters, Output"),
        ("show", "Arguments, Data, Training, Output"),
        ("evaluate", "Arguments, Data, Metrics, Run folder, Output, Machine"),
        (
            "compare x --recipes dcgan,lsgan",
            "Arguments, Data, Options of dcgan and lsgan, Training, Metrics, Output, Machine",
        ),
        ("explore", "Arguments, Conditions, Comparison of images, Run folder, Output, Machine"),
    ],
)
def test_help_has_the_options_in_groups_in_this_order(words: str, groups: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*words.split(), "--help"]) == 0
    assert ", ".join(re.findall(r"^╭─ (.*?) ─", capsys.readouterr().out, re.MULTILINE)) == groups
