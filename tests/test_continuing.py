"""A run whose images have changed or moved, and one command that begins or continues a run."""

from __future__ import annotations

import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from bare_run import create
from leafwing import cli, commands
from leafwing.commands.feeding import split_data
from leafwing.commands.plan import resolve_training
from leafwing.commands.session import fit_intervals
from leafwing.commands.training import describe_rest, new_length
from leafwing.data import load
from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError
from leafwing.game import Clock
from leafwing.loop import Tick
from leafwing.progress import Reporter
from leafwing.runs import Run
from leafwing.settings import OutputSettings, Schedule, Settings
from slow_turns import SlowTurns

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    noise = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / f"{i}.png")
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def last_weights(run: Run) -> bytes:
    return list(run.weights().values())[-1].read_bytes()


def test_resume_looks_at_the_source_even_if_the_data_are_in_the_cache(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    kept = sorted(folder.glob("*.png"))
    for name in ("x.png", "y.png"):
        Image.new("RGB", (16, 16)).save(folder / name)
    Image.new("RGB", (16, 16)).save(kept[0])
    kept[1].unlink()
    change = f"2 images added (x.png, y.png), 1 image removed ({kept[1].name}), 1 image changed ({kept[0].name})"
    with pytest.raises(LeafwingError, match=re.escape(change)) as caught:
        leafwing.resume(run.folder, images=32)
    assert "--changed old" in str(caught.value)
    assert "--changed new" in str(caught.value)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("changed", ["old", "new"])
def test_after_the_images_have_changed_a_run_continues_exactly(folder: Path, tmp_path: Path, changed: str) -> None:
    """With the old images as if nothing had happened, and with the new ones exactly from there on."""
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=48, log_every=8, save_every=8, **TINY)
    part = leafwing.train(folder, "dcgan", out=tmp_path / "part", images=16, log_every=8, save_every=8, **TINY)
    old = part.data
    for name in ("x.png", "y.png"):
        Image.new("RGB", (16, 16), "red").save(folder / name)
    copy = shutil.copytree(part.folder, tmp_path / "copy")
    once = leafwing.resume(part.folder, images=48, changed=changed)
    leafwing.resume(copy, images=32, changed=changed)
    twice = leafwing.resume(copy, images=48, changed=changed)
    assert last_weights(once) == last_weights(twice)
    assert (last_weights(once) == last_weights(whole)) == (changed == "old")
    saved = Run(copy)
    assert (saved.data.samples, saved.data.fingerprint == old.fingerprint) == (
        (old.samples, True) if changed == "old" else (old.samples + 2, False)
    )
    changes = [(change.images, change.samples, change.fingerprint) for change in saved.history.data_changes]
    assert changes == ([] if changed == "old" else [(16, old.samples, old.fingerprint)])
    if changed == "new":
        leafwing.resume(copy, images=56)  # nothing has changed since


@pytest.mark.parametrize("what", ["added", "removed", "forgotten"])
def test_trained_images_that_are_held_out_after_a_change_are_marked(
    what: str, folder: Path, cache: Path, tmp_path: Path
) -> None:
    """Another image is held out if one of the held-out images is removed."""
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=8, hold_out=8, **TINY)
    dataset = load(folder, size=16)
    unseen = {image.tobytes() for image in split_data(run.data, dataset)[1].pictures(np.arange(8))}
    if what == "removed":
        next(path for path in sorted(folder.iterdir()) if np.asarray(Image.open(path)).tobytes() in unseen).unlink()
    else:
        Image.new("RGB", (16, 16), "red").save(folder / "x.png")
    if what == "forgotten":
        shutil.rmtree(cache)
    resumed = leafwing.resume(run, images=16, changed="new")
    assert resumed.history.trained_on_held_out == (what != "added")


def test_touched_files_are_not_changed_images(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    for path in folder.glob("*.png"):
        os.utime(path, (1, 1))
    leafwing.resume(run.folder, images=24)


def test_moved_images_are_found(folder: Path, cache: Path, tmp_path: Path) -> None:
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=32, **TINY)
    part = leafwing.train(folder, "dcgan", out=tmp_path / "part", images=16, **TINY)
    shutil.rmtree(cache)
    moved = shutil.move(folder, tmp_path / "moved")
    with pytest.raises(LeafwingError, match="--source"):
        leafwing.resume(part.folder, images=32)
    for options in ({"source": tmp_path / "nowhere"}, {"source": tmp_path / "nowhere", "changed": "new"}):
        with pytest.raises(LeafwingError, match="no such file or folder"):
            leafwing.resume(part.folder, images=32, **options)
    assert last_weights(leafwing.resume(part.folder, images=32, source=moved)) == last_weights(whole)
    assert Run(part.folder).data.source == str(moved)


def test_evaluate_and_explore_say_how_they_find_images_that_have_moved(folder: Path, cache: Path, tmp_path: Path) -> None:
    """They have no --source, but --data puts images into the cache."""
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, hold_out=8, **TINY).folder
    shutil.rmtree(cache)
    moved = shutil.move(folder, tmp_path / "moved")

    def evaluate(**how: Any) -> Any:
        return leafwing.evaluate(run, metrics="fid", features="pixels", **how)

    for call in (evaluate, lambda: leafwing.explore(run, "invert", steps=1)):
        with pytest.raises(LeafwingError, match="If the images have moved: --data PATH") as caught:
            call()
        assert "--source" not in str(caught.value)
    assert evaluate(data=moved)[0]["protocol"]["split"] == "all"
    assert evaluate()[0]["protocol"]["split"] == "held-out"


def test_evaluate_and_explore_say_what_to_do_about_images_that_have_changed(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY).folder
    shutil.rmtree(cache)
    Image.new("RGB", (16, 16)).save(folder / "x.png")
    for metrics, data, advice in (
        ("fid", None, "restore them, or compare with other images (--data)"),
        ("memorisation", folder, "restore them"),
    ):
        with pytest.raises(LeafwingError, match=f"not in the cache: {re.escape(advice)}$"):
            leafwing.evaluate(run, metrics=metrics, features="pixels", data=data)
    with pytest.raises(LeafwingError, match=r"not in the cache: restore them$"):
        leafwing.explore(run, "invert", steps=1)
    assert leafwing.evaluate(run, metrics="fid", features="pixels", data=folder)[0]["protocol"]["split"] == "other"


def split_in_two(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The images of a folder in two others."""
    halves = tmp_path / "even", tmp_path / "odd"
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        halves[index % 2].mkdir(exist_ok=True)
        shutil.move(path, halves[index % 2] / path.name)
    return halves


def test_a_run_of_joined_sources_is_continued_replayed_and_found_again(folder: Path, cache: Path, tmp_path: Path) -> None:
    even, odd = split_in_two(folder, tmp_path)
    whole = leafwing.train([odd, even], "dcgan", out=tmp_path / "whole", images=32, **TINY)
    words = ["train", str(odd), str(even), "--recipe", "dcgan", "--root", str(tmp_path / "runs"), "--images", "16"]
    words += [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert cli.run(words) == 0
    part = Run(tmp_path / "runs" / "0001-dcgan-odd_even")
    assert part.data.sources == {"odd": str(odd), "even": str(even)}
    assert part.data.source == f"{odd} + {even}"
    assert last_weights(leafwing.train(replay=whole.folder, out=tmp_path / "again")) == last_weights(whole)
    shutil.rmtree(cache)
    moved = [str(shutil.move(path, tmp_path / f"moved-{path.name}")) for path in (odd, even)]
    with pytest.raises(LeafwingError, match="--source PATH-OF-odd PATH-OF-even"):
        leafwing.resume(part.folder, images=32)
    with pytest.raises(LeafwingError, match=r"has 2 sources .*give as many, in this order"):
        leafwing.resume(part.folder, images=32, source=moved[0])
    with pytest.raises(LeafwingError, match="has changed since"):
        leafwing.resume(part.folder, images=32, source=moved[::-1])
    assert cli.run(["resume", str(part.folder), "--images", "32", "--source", *moved]) == 0
    assert last_weights(Run(part.folder)) == last_weights(whole)
    assert Run(part.folder).data.sources == dict(zip(("odd", "even"), moved, strict=True))


def test_joined_sources_that_have_changed_are_refused_or_used_as_they_are(folder: Path, tmp_path: Path) -> None:
    even, odd = split_in_two(folder, tmp_path)
    run = leafwing.train([even, odd], "dcgan", out=tmp_path / "run", images=16, **TINY)
    Image.new("RGB", (16, 16)).save(odd / "x.png")
    with pytest.raises(LeafwingError, match=re.escape("1 image added (odd/x.png)")):
        leafwing.resume(run.folder, images=32)
    leafwing.resume(run.folder, images=24, changed="old")
    assert leafwing.resume(run.folder, images=32, changed="new").data.samples == 25
    leafwing.resume(run.folder, images=40)
    even.rename(tmp_path / "elsewhere")
    with pytest.raises(LeafwingError, match=re.escape(f"{even} cannot be found")):
        leafwing.resume(run.folder, images=48)


def test_a_second_source_that_has_moved_is_found(folder: Path, cache: Path, tmp_path: Path) -> None:
    even, odd = split_in_two(folder, tmp_path)
    options: dict[str, Any] = {"size": 16, "width": 4, "patch": 1, "patches": 4, "batch": 4, "threads": 1, "hold_out": 0}
    run = leafwing.train(even, "cut", out=tmp_path / "run", images=8, input=odd, **options)
    alone = leafwing.train(even, out=tmp_path / "alone", images=16, **TINY)
    shutil.rmtree(cache)
    moved = odd.rename(tmp_path / "moved")
    with pytest.raises(LeafwingError, match="--input PATH") as caught:
        leafwing.resume(run.folder, images=16)
    assert "--source" not in str(caught.value)
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    commands.train_or_resume(even, "cut", out=copy, images=16, input=moved, progress=False, **options)
    assert Run(copy).data.options["input"] == str(moved)
    shutil.rmtree(cache)
    assert cli.run(["resume", str(run.folder), "--images", "16", "--input", str(moved)]) == 0
    assert Run(run.folder).data.options["input"] == str(moved)
    leafwing.resume(run.folder, images=24)
    with pytest.raises(LeafwingError, match="alone has no second source"):
        leafwing.resume(alone.folder, images=32, input=moved)


def test_images_that_do_not_fit_the_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    paths = sorted(folder.glob("*.png"))
    for index, path in enumerate(paths):
        (folder / f"class{index % 2}").mkdir(exist_ok=True)
        shutil.move(path, folder / f"class{index % 2}" / path.name)
    with pytest.raises(LeafwingError, match="do not fit the images that are there now"):
        leafwing.resume(run.folder, images=32, changed="new")
    with pytest.raises(LeafwingError, match="choose from old, new"):
        leafwing.resume(run.folder, images=32, changed="yes")


def test_a_replay_says_that_the_data_are_others(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    said: list[str] = []

    class Listening(Reporter):
        def say(self, text: str) -> None:
            said.append(text)

    leafwing.train(replay=run.folder, out=tmp_path / "same", progress=Listening())
    assert not any("not the data of" in text for text in said)
    Image.new("RGB", (16, 16)).save(folder / "one more.png")
    leafwing.train(replay=run.folder, out=tmp_path / "other", progress=Listening())
    assert f"not the data of {run.folder}: 1 image added (one more.png); the weights will differ" in said


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({}, ""),
        ({"rolled_back": [{"from": 1992, "to": 1096, "why": "nan", "rate": 0.5}, {"from": 9, "to": 0, "why": "nan", "rate": 0.25}]},
         "{} rolled back to 1,096, 0 images, which is not repeated; the weights will differ"),
        ({"data_changes": [{"images": 16, "fingerprint": "e" * 64, "samples": 8}]},
         "the data of {} changed at 16 images, which is not repeated; the weights will differ"),
        ({"planned": 500}, "{} was planned with 500 images, which is not repeated; if its schedules follow the length of training, as "
         "the probability of --augment ada does, the weights will differ"),
    ],
)  # fmt: skip
def test_a_replay_says_what_it_does_not_repeat(tmp_path: Path, history: dict[str, Any], message: str) -> None:
    run, lines = create(tmp_path / "run", history=history), Lines()
    resolve_training("digits", None, {"size": 16}, {}, lines, run)
    assert [line for line in lines.lines if "not repeated" in line] == [message.format(run.folder)] * bool(message)


def test_one_command_begins_or_continues(folder: Path, tmp_path: Path) -> None:
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=32, **TINY)
    said: list[str] = []

    class Listening(Reporter):
        def say(self, text: str) -> None:
            said.append(text)

    for images in (16, 32, 32):
        run = commands.train_or_resume(folder, "dcgan", out=tmp_path / "run", images=images, progress=Listening(), **TINY)
    assert last_weights(run) == last_weights(whole)
    assert [text for text in said if "continued with its own settings" in text or "trained on all" in text] == [
        f"{run.folder} exists: it is continued with its own settings",
        f"{run.folder} has been trained on all of its 32 images already",
    ]
    with pytest.raises(LeafwingError, match="--or-resume needs --out FOLDER"):
        commands.train_or_resume(folder)


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        ({}, ""),
        ({"size": "16x16", "hold_out": "4", "health": "warn", "batch": 8.0, "threads": "1", "images": 4}, ""),
        ({"precision": "auto", "hold_out": "auto", "lr_g": 2e-4, "channels": 3, "time": "1h", "seed": 0}, ""),
        ({"lr_g": 0.1, "seed": 3}, "seed=3 (it has 0), lr_g=0.1 (it has 0.0002)"),
        ({"size": 32, "mirror": True, "hold_out": 5}, "size=32 (it has 16x16), mirror=True (it has False), hold_out=5 (it has 4)"),
        ({"augment": "diff", "stop_on": "swd", "recipe": "wgan"}, "augment=diff (it has None), stop_on=swd (it has None), "
         "recipe=wgan (it has dcgan)"),
        ({"recipe": "lsgan", "gradient_penalty": 1}, "gradient_penalty=1 (it has None), recipe=lsgan (it has dcgan)"),
        ({"settings": Settings(schedule=Schedule(seed=7))}, "seed=7 (it has 0)"),
    ],
)  # fmt: skip
def test_what_an_existing_run_does_not_use_is_named(
    folder: Path, tmp_path: Path, arguments: dict[str, Any], unused: str
) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=8, hold_out=4, **TINY)
    lines = Lines()
    options = {"recipe": "dcgan", **TINY, **arguments}
    commands.train_or_resume(folder, out=run.folder, progress=lines, **options)
    expected = [f"not used, because {run.folder} exists and keeps its own: {unused}"] if unused else []
    assert sorted(", ".join(lines.lines[:-1]).split(", ")) == sorted(", ".join(expected).split(", "))
    assert lines.lines[-1] == f"{run.folder} has been trained on all of its 8 images already"


def test_a_run_is_continued_with_the_source_it_is_given_if_its_own_is_lost(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    lines, options = Lines(), {"recipe": "dcgan", **TINY}
    whole = leafwing.train(folder, out=tmp_path / "whole", images=48, **options)
    run = leafwing.train(folder, out=tmp_path / "run", images=16, **options)
    moved = folder.rename(tmp_path / "moved")
    for images, source in ((24, folder), (32, moved)):  # the images are in the cache
        commands.train_or_resume(source, out=run.folder, images=images, progress=lines, **options)
    assert [line for line in lines.lines if "not used" in line] == [
        f"not used, because {run.folder} exists and keeps its own: source={moved} (it has {folder})"
    ]
    shutil.rmtree(cache)
    with pytest.raises(LeafwingError, match=r"not in the cache, and its source cannot be read: .*no such file or folder"):
        commands.train_or_resume(folder, out=run.folder, images=48, **options)
    continued = commands.train_or_resume(moved, out=run.folder, images=48, **options)
    assert last_weights(continued) == last_weights(whole)
    assert continued.data.source == str(moved)


def test_arrays_are_used_again_if_they_are_not_in_the_cache(cache: Path, tmp_path: Path) -> None:
    noise, lines, options = np.random.default_rng(0), Lines(), {"recipe": "dcgan", **TINY}
    images, others = (noise.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8) for _ in range(2))
    whole = leafwing.train(images, out=tmp_path / "whole", images=48, **options)
    for source, shown in ((images, 16), (images, 24), (others, 32), (load(others, size=16), 40)):
        run = commands.train_or_resume(source, out=tmp_path / "run", images=shown, progress=lines, **options)
    assert [line for line in lines.lines if "not used" in line] == [
        f"not used, because {run.folder} exists and keeps its own: the images (it has others)"
    ] * 2
    shutil.rmtree(cache)
    with pytest.raises(LeafwingError, match="has changed since"):
        commands.train_or_resume(others, out=run.folder, images=48, **options)
    assert last_weights(commands.train_or_resume(images, out=run.folder, images=48, **options)) == last_weights(whole)
    with pytest.raises(LeafwingError, match=r"or leafwing\.train\(images, replay=run\)$"):
        leafwing.train(replay=run)


def test_only_a_new_run_needs_a_recipe_or_a_length(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    assert commands.train_or_resume(folder, out=run.folder, time="1h").records()[-1]["images"] == 16
    with pytest.raises(LeafwingError, match="--or-resume needs --images"):
        commands.train_or_resume(folder, out=tmp_path / "new", time="1h")
    assert not (tmp_path / "new").exists()


def test_exit_codes_tell_finished_from_out_of_time(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(folder), "--out", str(tmp_path / "run"), "--or-resume", "--images", "100000", "--time", "0.01s"]
    words += [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    first = cli.run(words)
    shown = Run(tmp_path / "run").records()[-1]["images"]
    assert first == 6
    assert cli.run(words) == 6
    assert Run(tmp_path / "run").records()[-1]["images"] > shown
    few = ["train", str(folder), "--out", str(tmp_path / "few"), "--or-resume", "--images", "16", *words[9:]]
    assert [cli.run(few), cli.run(few)] == [0, 0]
    assert cli.run([*few, "--dry-run"]) == 2
    assert "--or-resume" in capsys.readouterr().err


def test_the_first_line_says_what_remains_and_that_the_time_limit_is_gone(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=64, **TINY)
    run.update(replace(run.settings, schedule=replace(run.settings.schedule, images=256, time=60.0)))
    for _ in range(10):
        run.log({"images": 64, "seconds": 8.0, "images_per_second": 4.0, "losses": {}})
    line = describe_rest(run, 64, 8.0, None)
    assert line.endswith("resuming at 64 of 256 images, 192 to go, about 48s at its latest speed; it stops after 52s if that comes "
                         "first (--time)")  # fmt: skip
    run.update(replace(run.settings, schedule=replace(run.settings.schedule, time=None)))
    assert "its time limit of 1m 00s no longer holds, --time +10m sets another" in describe_rest(run, 64, 8.0, 60.0)
    run.truncate_log(0)
    assert describe_rest(run, 0, 0.0, None).endswith("resuming at 0 of 256 images, 256 to go")
    lines: list[str] = []

    class Listening(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

    leafwing.resume(run.folder, images=80, progress=Listening())
    assert any("resuming at 64 of 80 images, 16 to go" in line for line in lines)


def intervals(run: Run) -> tuple[int, ...]:
    return tuple(getattr(run.settings.folder, name) for name in ("save_every", "grid_every", "log_every"))


def test_intervals_that_were_not_chosen_follow_the_length(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=160, grid_every=80, **TINY)
    assert intervals(run) == (8, 80, 1)
    plan = commands.forecast(replay=run, images=4_000)
    assert [plan["folder"][name] for name in ("save_every", "grid_every", "log_every")] == [200, 80, 20]
    before = list(run.weights())
    resumed = leafwing.resume(run, images=320)
    assert intervals(resumed) == intervals(leafwing.train(replay=run.folder, images=320, out=tmp_path / "again"))
    assert intervals(resumed) == (16, 80, 1)
    assert {*before} <= {*resumed.weights()}, "permanent checkpoints stay, though the interval is another"


def test_a_replay_fits_the_intervals_of_the_run_to_one_that_is_set(tmp_path: Path) -> None:
    """They were not the user's."""
    folder = {"save_every": 1000, "grid_every": 1000, "log_every": 100}
    run = create(tmp_path / "run", schedule={"images": 20_000}, history={"derived_intervals": [*folder]})
    run.update(replace(run.settings, folder=OutputSettings(**folder)))
    for name, value, expected in (("save_every", 64, (64, 1000, 64)), ("log_every", 2000, (2000, 2000, 2000))):
        plan = resolve_training("digits", None, {"size": 16, name: value}, {}, Reporter(), run)
        assert tuple(getattr(plan.settings.folder, name) for name in folder) == expected


def test_with_a_time_limit_there_is_a_line_of_the_log_for_each_checkpoint(tmp_path: Path) -> None:
    schedule, history = {"images": 10**8, "time": 100.0}, {"open_intervals": ["grid_every", "log_every"]}
    run = create(tmp_path / "run", schedule=schedule, history=history)
    run.update(replace(run.settings, folder=OutputSettings(save_every=256, log_every=256, grid_every=10**7)))
    fit_intervals(run, Tick(Clock(500_000, 10**8), 10.0, 50_000.0, {}, 0), Processes())
    assert intervals(run) == (256, 250_000, 256)


def test_defaults_in_settings_do_not_replace_those_of_a_replayed_run(folder: Path, tmp_path: Path) -> None:
    run, settings = (
        leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY),
        Settings(schedule=Schedule(seed=1)),
    )
    again = leafwing.train(replay=run, settings=settings, out=tmp_path / "again")
    assert (again.settings.schedule.images, again.settings.schedule.seed) == (16, 1)
    assert commands.forecast(replay=run, settings=settings)["schedule"]["images"] == 16


def test_a_replay_of_another_length_has_no_time_limit(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images="10M", time=0.3, save_every=5_000_000, **TINY)
    said: list[str] = []

    class Listening(Reporter):
        def say(self, text: str) -> None:
            said.append(text)

    assert commands.forecast(replay=run, images=64, time="1h")["schedule"]["time"] == 3600
    plan = commands.forecast(replay=run, images=64, progress=Listening())
    assert plan["schedule"]["time"] is None
    assert any(line.startswith("--images is given without --time: the limit of") for line in said)
    assert plan["folder"]["save_every"] == 5_000_000
    assert plan["history"]["derived_intervals"] == ("grid_every", "log_every")
    resumed = leafwing.resume(run, images=run.records()[-1]["images"] + 8)
    assert intervals(resumed)[1] == resumed.settings.schedule.images // 20


def test_a_time_that_is_used_up_is_refused(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(LeafwingError, match=r"already been trained for .*, so --time 0.001s is too short; .* \+10m on top"):
        leafwing.resume(run, images=32, time="0.001s")
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_time_limit_stays_after_an_interruption_until_it_is_reached(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    run.update(replace(run.settings, schedule=replace(run.settings.schedule, images=64, time=60.0)))
    assert new_length(run, None, None, 16, 20.0) == (64, 60.0)
    assert new_length(run, None, None, 16, 60.0) == (64, None), "reached"
    assert new_length(run, "+16", None, 16, 20.0) == (80, None), "the user has chosen another length"
    assert new_length(run, None, "+60", 16, 20.0) == (64, 80.0)
    assert commands.train_or_resume(folder, out=run.folder).settings.schedule.time == 60


def test_a_replay_on_another_device_chooses_for_it_again(tmp_path: Path) -> None:
    """A run of a GPU, replayed on a CPU: what the user had not set is not refused, nor is it inherited."""
    machine = {"device": "cuda", "precision": "bf16", "capture": True, "fused": True, "resident": True, "threads": 1}
    run = create(tmp_path / "run", machine=machine)
    plan = resolve_training("digits", None, {"device": "cpu", "size": 16}, {}, Reporter(), run)
    expected = resolve_training("digits", "dcgan", {"device": "cpu", "size": 16, "threads": 1}, {}, Reporter())
    assert plan.settings.machine == expected.settings.machine
    with pytest.raises(LeafwingError, match="capture"):
        resolve_training("digits", None, {"device": "cpu", "size": 16, "capture": True}, {}, Reporter(), run)


def test_checkpoints_are_never_less_frequent_than_the_user_asked(folder: Path, tmp_path: Path) -> None:
    """They are written with lines of the log, which become as frequent."""
    assert commands.forecast(folder, "dcgan", images=40_000, save_every=50, **TINY)["folder"]["log_every"] == 50
    run = leafwing.train(folder, "dcgan", images=64, save_every=16, log_every=16, keep_last=9, out=tmp_path / "run", **TINY)
    assert [*run.weights()] == [16, 32, 48, 64]
    for name in ("save_every", "grid_every"):
        with pytest.raises(LeafwingError, match=f"{name}=8.*with lines of the log, so --log-every 16 must not be higher"):
            commands.forecast(folder, "dcgan", images=64, log_every=16, **{name: 8}, **TINY)


def test_a_slow_training_with_a_time_limit_has_its_checkpoints(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shows fewer images than there are between two lines of the log by its planned number of images."""
    slow = SlowTurns(monkeypatch)
    run = leafwing.train(folder, "dcgan", images="1M", time=200, out=tmp_path / "run", progress=slow, **TINY)
    assert run.records()[0]["images"] < 100, "after a twentieth of the time"
    shown = run.records()[-1]["images"]
    assert run.settings.folder.save_every == pytest.approx(shown / 20, rel=0.2)
    assert len(run.records()) > 50
    before = run.settings.folder.save_every
    resumed = leafwing.resume(run, time="+1800", progress=slow)
    assert resumed.settings.folder.save_every == pytest.approx(10 * before, rel=0.2), "they follow a new limit"


def test_stages_that_a_shorter_training_does_not_reach_are_said(tmp_path: Path) -> None:
    small: dict[str, Any] = {"width": 2, "latent": 2, "batch": 8, "threads": 1, "components": 3}

    class Stopping(Reporter):
        def after_turn(self, images: int) -> None:
            if images >= 16:
                signal.raise_signal(signal.SIGINT)

    run = leafwing.train("ring", "adagan", images=96, out=tmp_path / "run", progress=Stopping(), **small)

    class Warnings(Lines):
        def warn(self, text: str) -> None:
            self.lines.append(text)

    lines = Warnings()
    leafwing.resume(run, images=48, progress=lines)
    assert any(
        "planned for 96 images, and those that begin after 48 are left out: `leafwing train --from" in line
        for line in lines.lines
    )
    longer = Warnings()
    leafwing.resume(leafwing.train("ring", "adagan", images=48, out=tmp_path / "two", **small), images=96, progress=longer)
    assert not any("left out" in line for line in longer.lines)


def test_a_decay_is_no_half_life(folder: Path) -> None:
    with pytest.raises(
        LeafwingError, match=r"ema=0\.999: .* not a decay: a decay of 0\.999 for each batch is 5\.54k images"
    ):
        commands.forecast(folder, "dcgan", images=64, ema=0.999, **TINY)
    for value in (0, 1, "5k"):
        commands.forecast(folder, "dcgan", images=64, ema=value, **TINY)


def weights_of(run: Run) -> bytes:
    return run.weights()[max(run.weights())].read_bytes()


def test_a_reporter_may_draw_random_numbers(folder: Path, tmp_path: Path) -> None:
    class Drawing(Reporter):
        def after_turn(self, images: int) -> None:
            torch.rand(3)

        def tick(self, record: Any) -> None:
            torch.manual_seed(0)

    first, second = (
        leafwing.train(folder, "dcgan", images=32, out=tmp_path / name, progress=reporter, **TINY)
        for name, reporter in (("plain", False), ("drawing", Drawing()))
    )
    assert weights_of(first) == weights_of(second)


def test_a_training_in_a_thread_says_what_that_means(folder: Path, tmp_path: Path) -> None:
    lines, runs = Lines(), list[Run]()
    options = {"images": 16, "out": tmp_path / "run", "progress": lines, **TINY}
    thread = Thread(target=lambda: runs.append(leafwing.train(folder, "dcgan", **options)))
    thread.start()
    thread.join()
    assert any("repeated exactly only if no other thread uses PyTorch" in line for line in lines.lines)
    assert weights_of(runs[0]) == weights_of(
        leafwing.train(folder, "dcgan", **{**options, "out": tmp_path / "main", "progress": False})
    )
