"""`leafwing compare`: real trainings side by side, interrupted and gone on with; the report; what is refused."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image

import leafwing
from crew import Crew
from leafwing import cli, commands, machine, recipes
from leafwing.commands.comparison import comparing, entering, side_by_side, speeds, telling
from leafwing.commands.comparison.book import Book
from leafwing.commands.comparison.side_by_side import SideBySide, Stopped
from leafwing.commands.comparison.speeds import planned
from leafwing.data import load
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Clock
from leafwing.metrics.conclusions import Budget
from leafwing.metrics.table import RunResult
from leafwing.model import Model
from leafwing.progress import Silent
from leafwing.runs import Run, processor
from page import Page
from tiny import PICTURES, build, start, supports

SETTINGS = ("latent=2", "batch=50", "width=8", "gan.width_d=8", "gan.dropout=0")
RING: dict[str, Any] = {"recipes": "gan,lsgan", "seeds": 2, "images": 600, "options": SETTINGS, "n": 200, "jobs": 2}


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    found = Crew(tmp_path, lambda words: None)
    monkeypatch.setattr(side_by_side, "start", found)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Two recipes with two seeds on the ring, undisturbed; one diverges."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "start", Crew(folder, lambda words: None))
        yield folder / "out", commands.compare("ring", **RING, out=folder / "out")


def without_times(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in run.items() if "seconds" not in key} for run in told["runs"]]


# --- whole comparisons ------------------------------------------------------------------------------------------------------


def test_it_trains_evaluates_and_tells(whole: tuple[Path, dict[str, Any]]) -> None:
    out, told = whole
    assert json.loads((out / "table.json").read_text()) == told
    assert [(run["recipe"], run["seed"]) for run in told["runs"]] == [("gan", 0), ("gan", 1), ("lsgan", 0), ("lsgan", 1)]
    for run in told["runs"]:
        assert (run["status"], run["images"], run["generator_steps"]) == ("finished", 600, 12)
        assert run["seconds"] > 0
        assert run["best"].keys() == run["final"].keys() == {"modes", "high_quality", "kl"}
        assert all(isinstance(value, float) for value in run["final"].values())
    assert {one["recipe"] for one in told["summary"]} == {"gan", "lsgan"}
    assert len(told["sentences"]) == 3
    assert all(sentence.endswith(".") for sentence in told["sentences"])
    lines = list(csv.reader((out / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert len(lines) == 5
    assert {"final_modes", "best_kl"} <= {*lines[0]}
    assert len(told["protocols"]) == 1
    run = Run(out / "runs" / "gan-seed1")
    assert run.settings.schedule.seed == 1
    assert run.config["options"]["width"] == 8
    kept = list(run.weights())
    assert kept[0] <= 50
    assert kept[-1] == 600
    assert 8 <= len(kept) <= 10, "about so many checkpoints, evenly, stay to be evaluated"
    shown = {made["images"] for made in json.loads((out / "compare.json").read_text())["runs"]["gan-seed1"]["numbers"]}
    assert shown == set(kept)


def test_called_again_it_does_nothing_twice_and_tells_the_same(whole: tuple[Path, dict[str, Any]], crew: Crew) -> None:
    out, told = whole
    page = (out / "report.html").read_text()
    assert commands.compare("ring", **RING, out=out) == told
    assert crew.calls == []
    assert (out / "report.html").read_text() == page


def test_typed_it_is_the_same(whole: tuple[Path, dict[str, Any]], crew: Crew, capsys: pytest.CaptureFixture[str]) -> None:
    out, told = whole
    words = ["compare", "ring", "--recipes", "gan,lsgan", "--seeds", "2", "--images", "600", "-n", "200", "--jobs", "2"]
    words += [word for option in SETTINGS for word in ("--set", option)] + ["--out", str(out)]
    assert told["command"] == shlex.join(["leafwing", *words[:8], "-n", "200", "--jobs", "2", *words[12:]])
    assert cli.run(words) == 0
    said = capsys.readouterr()
    assert said.out.startswith(" ".join(told["sentences"]))
    assert f"report  {out / 'report.html'}" in said.out
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert cli.run(["compare", "ring", "--recipes", "gan", "--out", str(out)]) == 2
    assert crew.calls == []


def test_a_recipe_of_ones_own_takes_part(whole: tuple[Path, dict[str, Any]], crew: Crew, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(recipes.locate("gan").read_text().replace("def gan(", "def mine("))
    options = [option.removeprefix("gan.") for option in SETTINGS]
    told = commands.compare("ring", **{**RING, "recipes": [str(mine)], "seeds": 1, "options": options}, out=tmp_path / "out")
    gan, own = whole[1]["runs"][0], told["runs"][0]
    assert own["recipe"] == "mine"
    assert (own["final"], own["best"]) == (gan["final"], gan["best"])
    assert told["sentences"][0].startswith("mine is the only recipe")
    mine.write_text(mine.read_text() + "\nOTHER = 1\n")
    with pytest.raises(LeafwingError, match="recipe mine: another file"):
        commands.compare("ring", **{**RING, "recipes": [str(mine)], "seeds": 2, "options": options}, out=tmp_path / "out")


def test_recipes_and_seeds_may_be_added_but_not_left_out(
    whole: tuple[Path, dict[str, Any]], crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole
    before = (out / "compare.json").read_bytes()
    for change, said in (
        ({"images": 500}, "images: 600 there, 500 now"),
        ({"seeds": 1}, "seeds 1 were left out"),
        ({"recipes": "gan"}, "recipe lsgan was left out"),
        ({"options": (*SETTINGS, "gan.lr_g=0.2")}, r"recipe gan: lr_g=0.001 there, 0.2 now"),
        ({"minutes": 1}, "minutes: None there, 1 now"),
    ):
        with pytest.raises(LeafwingError, match=said) as caught:
            commands.compare("ring", **{**RING, **change}, out=out)
        assert "leafwing compare ring --recipes gan,lsgan" in str(caught.value)
    with pytest.raises(LeafwingError, match=r"source: ring there, \S*grid now"):
        commands.compare("grid", **RING, out=out)
    assert (out / "compare.json").read_bytes() == before
    assert crew.calls == []
    monkeypatch.setattr(comparing.SideBySide, "work", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        commands.compare("ring", **{**RING, "seeds": 3, "recipes": "gan,lsgan,wgan"}, out=out)
    held = json.loads((out / "compare.json").read_text())
    assert (held["seeds"], list(held["recipes"])) == ([0, 1, 2], ["gan", "lsgan", "wgan"])
    (out / "compare.json").write_bytes(before)


def test_interrupted_it_goes_on_and_comes_to_the_same(
    whole: tuple[Path, dict[str, Any]], crew: Crew, tmp_path: Path
) -> None:
    def interrupt(out: Path) -> None:
        while not [*out.glob("runs/*/weights-*")]:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    for attempt in range(3):  # both may have ended before they hear of it
        out = tmp_path / str(attempt)
        before = signal.getsignal(signal.SIGINT)
        threading.Thread(target=interrupt, args=(out,), daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            commands.compare("ring", **{**RING, "seeds": 1}, out=out)
        assert signal.getsignal(signal.SIGINT) is before
        assert not (out / "report.html").exists()
        reached = [max(Run(path.parent).weights(), default=0) for path in out.glob("runs/*/run.json")]
        if any(0 < images < 600 for images in reached):
            break
    else:
        pytest.fail(f"never stopped in the middle of a training: {reached}")
    crew.calls.clear()
    again = commands.compare("ring", **{**RING, "seeds": 1}, out=out)
    assert "resume" in crew.verbs()
    assert without_times(again) == without_times(whole[1])[::2]


def test_what_diverges_or_breaks_off_takes_nothing_with_it(crew: Crew, tmp_path: Path) -> None:
    killed = [True]

    def answers(words: Sequence[str]) -> tuple[int, str, str] | None:
        if words[0] == "train" and "--seed=1" in words and "--recipe=lsgan" in words and killed.pop():
            return (-signal.SIGKILL, "", "")
        return None

    crew.answers = answers
    options = (*SETTINGS, "gan.lr_d=1e30")
    out = tmp_path / "out"
    told = commands.compare("ring", **{**RING, "options": options}, out=out)
    gan, lsgan = (one for _, one in sorted((one["recipe"], one) for one in told["summary"]))
    assert (gan["collapsed"], gan["collapse_rate"], gan["final"]["modes"]["missing"]) == (2, 1.0, 2)
    assert (lsgan["runs"], lsgan["failed"]) == (2, 1)
    assert [run["status"] for run in told["runs"]] == ["diverged", "diverged", "finished", "failed"]
    assert re.search(r"became (nan|inf)", told["runs"][0]["why"])
    assert "SIGKILL" in told["runs"][3]["why"]
    assert "1 of 4 runs aborted" in told["sentences"][2]
    killed.append(False)
    crew.calls.clear()
    again = commands.compare("ring", **{**RING, "options": options}, out=out)
    assert crew.verbs() == ["evaluate", "train"], "what broke off is tried again, what diverged is not"
    assert again["runs"][3]["status"] == "finished"


# --- the report -------------------------------------------------------------------------------------------------------------


def test_the_report_stands_alone_and_says_what_was_found(whole: tuple[Path, dict[str, Any]]) -> None:
    out, told = whole
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert page.references
    assert all(reference.startswith("data:image/webp;base64,") for reference in page.references)
    assert not {"script", "link", "iframe", "object"} & {*page.seen}
    assert not re.findall(r"@import|url\(|https?://", html)
    text = " ".join(" ".join(page.text).split())
    assert " ".join(told["sentences"]) in text
    assert told["command"] in text
    (protocol,) = told["protocols"]
    assert protocol in text, "the fingerprint of the numbers"
    assert page.seen.count("svg") == 4, "three measures over images, the first over time"
    assert page.seen.count("img") == 2 * 5 + 4, "five moments of each recipe, the end of each run"
    for word in ("Learning curves", "All runs", "interquartile", "torch", "G steps"):
        assert word in text


def test_pages_of_closest_pairs_are_shown_and_a_comparison_may_be_moved(
    whole: tuple[Path, dict[str, Any]], crew: Crew, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(whole[0], moved)
    for run in moved.glob("runs/gan-*"):
        for images in (300, 600):
            Image.new("RGB", (2_000, 500 + images)).save(run / f"memorisation-{images:09d}.png")
    told = commands.compare("ring", **RING, out=moved)
    assert told["runs"] == whole[1]["runs"]
    assert crew.calls == []
    html = (moved / "report.html").read_text(encoding="utf-8")
    assert html.count("memorisation-000000600") == 2, "alt text and caption of the last page, of one run of the recipe"
    assert "memorisation-000000300" not in html
    (found,) = re.findall(r'memorisation-000000600" src="data:image/webp;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(found))) as shown:
        assert shown.size == (1100, 605)


def test_numbers_of_different_protocols_are_refused_and_then_made_again(
    whole: tuple[Path, dict[str, Any]], crew: Crew, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(whole[0], moved)
    held = json.loads((moved / "compare.json").read_text())
    for made in held["runs"]["lsgan-seed1"]["numbers"]:
        made["protocol"] |= {"version": 0}
    (moved / "compare.json").write_text(json.dumps(held))
    (moved / "report.html").unlink()
    with pytest.raises(LeafwingError, match=r"version: 1 and 0.*will now evaluate all runs again"):
        commands.compare("ring", **RING, out=moved)
    assert not (moved / "report.html").exists()
    assert commands.compare("ring", **RING, out=moved)["runs"] == whole[1]["runs"]
    assert crew.verbs() == ["evaluate"] * 4


# --- what is asked for ------------------------------------------------------------------------------------------------------


def test_options_go_to_those_who_have_them() -> None:
    references = {"gan": "gan", "wgan_gp": "wgan_gp"}
    found = entering.shared_out(["width=32", "wgan_gp.width=16", "penalty=1", "gan.lr-g=0.5"], references)
    assert found == {"gan": {"width": "32", "lr_g": "0.5"}, "wgan_gp": {"width": "16", "penalty": "1"}}
    for wrong, said in (
        ("widht=3", "no recipe here has this option; did you mean width"),
        ("lsgan.width=3", "no recipe 'lsgan' takes part"),
        ("gan.penalty=3", "recipe gan has no option 'penalty'"),
        ("width=no", "recipe gan: width='no'"),
        ("width", "write name=value"),
    ):
        with pytest.raises(LeafwingError, match=said):
            entering.shared_out([wrong], references)


def test_seeds_are_a_number_or_named() -> None:
    assert entering.chosen_seeds("3") == entering.chosen_seeds(3) == [0, 1, 2]
    assert entering.chosen_seeds("7,9") == entering.chosen_seeds([7, 9]) == [7, 9]
    for wrong in ("0", "-1", "a", "1,1", [], "1,x"):
        with pytest.raises(LeafwingError, match="seed"):
            entering.chosen_seeds(wrong)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipes": "gan,gna"}, "did you mean gan"),
        ({"recipes": "gan,gan"}, "each once"),
        ({"recipes": ""}, "name at least one"),
        ({"metrics": "mods"}, "did you mean modes"),
        ({"minutes": 0}, "more than 0 minutes"),
        ({"jobs": 0}, "jobs"),
        ({"images": "x"}, "images"),
        ({"recipes": "dcgan"}, "points"),
        ({"device": "tpu"}, "no device"),
        ({"n": 0}, "n 0"),
        ({"features": "pixel"}, "no feature network 'pixel'; did you mean pixels"),
        ({"features": "inception", "weights": "missing.pth"}, "--weights missing.pth"),
        ({"weights": "missing.pth"}, "--weights missing.pth"),
        ({"metrics": "fid"}, "metric fid looks at pictures"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    change: dict[str, Any], said: str, tmp_path: Path, crew: Crew
) -> None:
    with pytest.raises(LeafwingError, match=said):
        commands.compare("ring", **{**RING, "options": (), **change}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert crew.calls == []


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path, crew: Crew) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LeafwingError, match="holds no comparison"):
        commands.compare("ring", **RING, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "compare.json").write_text("{}")
    with pytest.raises(LeafwingError, match=r"compare\.json cannot be read"):
        commands.compare("ring", **RING, out=tmp_path / "out")
    (tmp_path / "out" / "compare.json").unlink()
    (tmp_path / "out" / "runs" / "mine").mkdir()
    with pytest.raises(LeafwingError, match="holds no comparison"):
        commands.compare("ring", **RING, out=tmp_path / "out")
    (tmp_path / "out" / "runs" / "mine").rmdir()
    (tmp_path / "out" / ".lock").touch()
    lock = FileLock(tmp_path / "out" / ".lock")
    with lock, pytest.raises(LeafwingError, match="another leafwing compare works there"):
        commands.compare("ring", **RING, out=tmp_path / "out")


def plan(crew: Crew, monkeypatch: pytest.MonkeyPatch, source: str, out: Path, **given: Any) -> entering.Plan:
    """The plan of a comparison that is not carried out."""
    found: list[entering.Plan] = []
    monkeypatch.setattr(comparing, "opened", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    keep = comparing.resolve
    monkeypatch.setattr(comparing, "resolve", lambda *args: found.append(keep(*args)) or found[0])
    with pytest.raises(KeyboardInterrupt):
        commands.compare(source, **given, out=out)
    return found[0]


def test_trainings_are_told_what_was_asked(crew: Crew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {
        "size": "16x32",
        "fit": "pad",
        "background": "#ff0000",
        "mirror": True,
        "hold_out": 30,
        "minutes": 1.5,
        "images": "1k",
    }
    found = plan(
        crew,
        monkeypatch,
        "digits",
        tmp_path / "out",
        recipes=["gan", "cgan"],
        options={"gan.saturating": True, "width": 8},
        **asked,
    )
    words = comparing.training_words(found, "gan", 7)
    command, bound, unused = cli.commands_for(["train", *words]).parse_args(
        ["train", *words], exit_on_error=False, print_error=False
    )
    assert (command.__module__, unused) == ("leafwing.cli.train", {})  # type: ignore[attr-defined]
    given = bound.arguments
    assert given["size"] == "16x32"
    assert (given["mirror"], given["fit"], given["background"], given["hold_out"]) == (True, "pad", "#ff0000", "30")
    assert (given["saturating"], given["width"], given["seed"], given["images"], given["time"]) == (
        True,
        8,
        7,
        "1000",
        "90s",
    )
    assert given["threads"] == str(found.threads)
    assert "--no-saturating" not in words
    assert "saturating" not in " ".join(comparing.training_words(found, "cgan", 0))


def test_the_command_in_the_report_asks_for_the_same(crew: Crew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "recipes": "gan,cgan", "seeds": "4,5", "images": "1k", "minutes": 2.0123456, "size": "16", "mirror": True, "hold_out": 30,
        "options": ["width=8", "gan.lr_g=0.5"], "metrics": "fid,kid", "n": 50, "features": "pixels", "jobs": 2, "device": "cpu",
    }  # fmt: skip
    found = plan(crew, monkeypatch, "digits", tmp_path / "out", **asked)
    words = shlex.split(found.command)[1:]
    command, bound, unused = cli.commands_for(words).parse_args(words, exit_on_error=False, print_error=False)
    assert (command.__module__, unused) == ("leafwing.cli.compare", {})  # type: ignore[attr-defined]
    told = bound.arguments | {"options": bound.arguments["set"]}
    assert {key: str(told[key]) for key in asked} == {key: str(value) for key, value in asked.items()}


def test_trainings_share_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, crew: Crew) -> None:
    monkeypatch.setattr(entering, "cores", lambda: 8)
    given = {**RING, "jobs": None}
    found = plan(crew, monkeypatch, "ring", tmp_path / "out", **given)
    assert (found.jobs, found.threads) == (4, 2), "no more jobs than runs, and the cores are shared"
    assert entering.slots(found) == [{"OMP_NUM_THREADS": "2"}] * 4
    monkeypatch.undo()
    monkeypatch.setattr(entering, "cores", lambda: 8)
    monkeypatch.setattr(
        entering, "available_memory", lambda: int(2.6 * max(one.footprint for one in found.entrants.values()))
    )
    assert plan(crew, monkeypatch, "ring", tmp_path / "out", **given).jobs == 2, (
        "as many as find room in four fifths of the memory"
    )
    assert machine.cores() >= 1
    assert (side_by_side.available_memory() or 1) > 0
    assert processor()


def test_a_gpu_is_for_one_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, crew: Crew) -> None:
    found = plan(crew, monkeypatch, "ring", tmp_path / "out", **RING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    found.device, found.jobs = "cuda", 3
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in entering.slots(found)] == ["2", "5", "2"]


def test_minutes_become_images_at_the_measured_speed(crew: Crew, tmp_path: Path) -> None:
    def answers(words: Sequence[str]) -> tuple[int, str, str]:
        if words[0] == "-m":
            return 0, json.dumps({name: {"gan": [1000.0], "lsgan": [50.0]}[name] for name in asked_of(words)}), ""
        return 1, "", "leafwing: enough"

    def asked_of(words: Sequence[str]) -> list[str]:
        return list(json.loads(words[-1])["recipes"])

    crew.answers = answers
    with pytest.raises(LeafwingError, match=r"no run left a number \(enough\)"):
        commands.compare("ring", **{**RING, "images": None}, minutes=2, out=tmp_path / "out")
    measuring = sorted(asked_of(words) for words in crew.calls if words[0] == "-m")
    assert measuring == [["gan", "lsgan"], ["lsgan", "gan"]], "all recipes in every slot, each slot begins with another"
    trained = [words for words in crew.calls if words[0] == "train"]
    shown = {word for words in trained for word in words if word.startswith(("--images", "--time"))}
    assert shown == {f"--images={int(0.9 * 120 * 1000)}", f"--images={int(0.9 * 120 * 50)}", "--time=480s"}, (
        "late ones may end"
    )
    crew.calls.clear()
    with pytest.raises(LeafwingError, match="no run left a number"):
        commands.compare("ring", **{**RING, "images": None}, minutes=2, out=tmp_path / "out")
    assert "-m" not in crew.verbs(), "going on shows as many as before"
    crew.answers = lambda words: (2, "", "leafwing: gan cannot be tried out: no memory")
    with pytest.raises(LeafwingError, match=r"gan cannot be tried out: no memory. More is in .*speed0"):
        commands.compare("ring", **{**RING, "images": None}, minutes=2, out=tmp_path / "bad")


# --- equal time -------------------------------------------------------------------------------------------------------------


def test_a_measuring_child_is_told_what_trainings_are_told(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"size": "16x32", "fit": "pad", "mirror": True, "hold_out": 30, "minutes": 1.5, "options": {"cgan.width": 8}}
    found = plan(crew, monkeypatch, "digits", tmp_path / "out", recipes=["gan", "cgan"], **asked)
    heard: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    monkeypatch.setattr(speeds, "speed", lambda *told: heard.append(told) or float(len(heard)))
    option, module, *words = speeds.child_words(found, ["gan", "cgan"], 1)
    assert option == "-m"
    assert importlib.util.find_spec(f"{module}.__main__")
    assert speeds.main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"cgan": [1.0, 3.0, 5.0], "gan": [2.0, 4.0, 6.0]}, "round robin"
    told, options = heard[0]
    assert {
        "recipe": "cgan",
        "hold_out": 30,
        "fit": "pad",
        "mirror": True,
        "seed": 1,
        "device": "cpu",
    }.items() <= told.items()
    assert told["size"] == "16x32"
    assert options == {"width": 8}
    monkeypatch.setattr(speeds, "speed", lambda *told: (_ for _ in ()).throw(LeafwingError("no memory")))
    assert speeds.main(words) == 2
    assert capsys.readouterr().err == "leafwing: cgan cannot be tried out: no memory\n"


def test_images_are_planned_from_the_median_of_the_slices() -> None:
    found = {"a": [100.0, 1.0, 110.0], "b": [50.0], "c": [0.001]}
    assert planned(found, 60, {"a": 64, "b": 64, "c": 64}) == {"a": 5400, "b": 2700, "c": 64}, "a batch at the least"


def test_a_slice_has_whole_rounds_and_no_warm_up() -> None:
    now = [0.0]
    stopwatch = speeds.Stopwatch(lambda: now[0])
    clock, calls = Clock(0, 10**12, 0), 0
    while (
        True
    ):  # rounds of four turns of D and one of G, which shows nothing and takes half of the time; slow in the beginning
        for turn in range(5):
            now[0] += (0.05 if turn < 4 else 0.2) * (3 if now[0] < 0.4 else 1)
            clock = Clock(clock.images + 10 * (turn < 4), 10**12, clock.round)
            calls += 1
            if stopwatch(clock):
                assert stopwatch.speed == pytest.approx(100.0), "40 images a round of 0.4 s"
                assert now[0] < 3
                return
        clock = Clock(clock.images, 10**12, clock.round + 1)
        assert calls < 100


def test_a_slice_of_a_very_long_round_ends_within_it() -> None:
    now = [0.0]
    stopwatch = speeds.Stopwatch(lambda: now[0])
    for turn in range(1, 100):
        now[0] += 4.0
        if stopwatch(Clock(8 * turn, 10**12, 0)):
            break
    assert (stopwatch.speed, turn) == (2.0, 6), "12 s of warm-up, 12 s of the slice"


def busy() -> None:
    while True:
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs two processes on one core")
def test_a_competing_process_changes_the_wall_clock_and_hardly_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both share one core, so that the wall clock's speed halves; with processor time it stays, up to what caches and noise do."""
    monkeypatch.setattr(speeds, "SLICES", 2)
    monkeypatch.setattr(speeds, "SLICE", 0.4)
    monkeypatch.setattr(speeds, "WARM_UP", 0.1)
    asked = {"source": "ring", "hold_out": 0, "device": "cpu", "threads": 1, "seed": 0}
    found: dict[str, tuple[float, float]] = {}
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    core = max(before)

    def measure() -> tuple[float, float]:
        """Images per second of processor time, and the share of the wall clock's time that this process had the core."""
        began, worked = time.perf_counter(), time.process_time()
        (images_per_second,) = speeds.measured(asked, {"gan": ("gan", {"width": 16})}).values()
        return statistics.median(images_per_second), (time.process_time() - worked) / (time.perf_counter() - began)

    competitor = multiprocessing.get_context("fork").Process(target=busy, daemon=True)
    try:
        os.sched_setaffinity(0, {core})
        torch.set_num_threads(1)
        load("ring")
        found["alone"] = measure()
        competitor.start()
        found["beside"] = measure()
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)
        if competitor.pid:
            competitor.kill()
            competitor.join()
    (speed, _), (disturbed, share) = found["alone"], found["beside"]
    assert share < 0.7, "the other one had its part of the core"
    assert 1 / 1.4 < disturbed / speed < 1.4


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not say what a child used")
def test_a_child_leaves_what_processor_time_it_used(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.5)\nprint(time.process_time())"
    other = side_by_side.Child([sys.executable, "-c", "while True: pass"])
    with (tmp_path / "out").open("w+b") as out:
        began = time.monotonic()
        child = side_by_side.Child([sys.executable, "-c", work], stdout=out)
        assert child.poll() is None
        assert child.wait() == 0
        passed = time.monotonic() - began
        out.seek(0)
        said = float(out.read())
    assert child.processor is not None
    assert said <= child.processor < said + 0.2, "its end is counted, and nothing of another one"
    assert child.processor < passed - 0.4, "sleep costs nothing"
    other.kill()
    assert [other.wait(), other.wait(), other.poll()] == [-signal.SIGKILL] * 3
    assert other.processor is not None


def test_the_processor_time_of_a_training_is_that_of_all_its_sessions(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    book = Book(tmp_path / "out")
    book.kept = {"runs": {}}
    folder = book.run("gan", 0)

    def session(used: float | None) -> side_by_side.Ended:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").touch()
        return side_by_side.Ended(0, "", "", used)

    def stopped() -> side_by_side.Ended:
        raise Stopped(2.0)

    comparing.timed(book, "gan", 0, lambda: session(3.0))
    with pytest.raises(Stopped):
        comparing.timed(book, "gan", 0, stopped)
    comparing.timed(book, "gan", 0, lambda: session(1.5))
    assert book.of("gan", 0)["processor"] == 6.5

    def killed() -> side_by_side.Ended:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparing.timed(book, "gan", 0, killed)
    comparing.timed(book, "gan", 0, lambda: session(1.0))
    assert book.of("gan", 0)["processor"] is None, "nobody knows what was used when this process was killed"


def test_costs_are_counted_in_processor_time_where_that_is_known(whole: tuple[Path, dict[str, Any]]) -> None:
    runs = [RunResult("gan", 0, "finished", processor=1.0), RunResult("gan", 1, "diverged")]
    asked: Any = SimpleNamespace(asked={"minutes": 2, "images": None}, device="cpu")
    assert telling.budget(asked, runs) == Budget("time", 120.0, "processor_seconds", "processor time")
    unknown = telling.budget(asked, [*runs, RunResult("gan", 2, "finished")])
    assert unknown == Budget("time", 120.0, "seconds", "wall-clock time")
    asked.device, asked.asked = "cuda", {"minutes": None, "images": 600}
    assert telling.budget(asked, runs) == Budget("images", None, "seconds", "wall-clock time on cuda")
    told = whole[1]
    assert told["equal"].startswith("Equal numbers of images: 600 images per training; ")
    assert told["equal"] in (whole[0] / "report.html").read_text(encoding="utf-8")
    assert (told["unequal"], [one["judged"] for one in told["summary"]]) == ("", [0, 0]), "12 steps of G are too few"
    assert "trained long enough to be judged" in told["sentences"][0]
    assert "too short to judge" in told["sentences"][2]


# --- children ---------------------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_comparison_and_bad_evaluations_too(crew: Crew, tmp_path: Path) -> None:
    crew.answers = lambda words: (4, "", "leafwing: cannot write runs: No space left on device")
    with pytest.raises(StorageError, match="No space left"):
        commands.compare("ring", **RING, out=tmp_path / "full")
    assert len(crew.calls) <= 2, "nothing began afterwards"
    crew.answers = lambda words: (2, "", "leafwing: no such thing") if words[0] == "evaluate" else None
    with pytest.raises(LeafwingError, match=r"cannot be evaluated: no such thing. More is in .*logs"):
        commands.compare("ring", **{**RING, "seeds": 1}, out=tmp_path / "bad")


def test_a_real_child_is_started_and_heard(tmp_path: Path) -> None:
    side = SideBySide([{"OMP_NUM_THREADS": "1"}])
    found: list[side_by_side.Ended] = []

    def do(call: side_by_side.Call) -> None:
        found.append(call(["recipes", "--json"], tmp_path / "log.txt"))
        found.append(call(["reel", "nowhere"], tmp_path / "log.txt"))

    side.work([do])
    assert found[0].code == 0
    assert {card["name"] for card in json.loads(found[0].output)} == {*recipes.names()}
    assert found[1].code == 2
    assert "no run 'nowhere'" in found[1].said
    assert (tmp_path / "log.txt").read_text().startswith("$ leafwing recipes --json\n")


def test_last_words() -> None:
    assert side_by_side.last_words("$ leafwing x\nnoise\nleafwing: it broke\n", 2) == "it broke"
    assert side_by_side.last_words("$ leafwing x\nTraceback\nValueError: 3\n", 1) == "ValueError: 3"
    assert side_by_side.last_words("$ leafwing x\n", 1) == "ended with exit code 1"
    assert "memory" in side_by_side.last_words("", -signal.SIGKILL)


def test_a_run_that_somebody_else_trains_is_waited_for(whole: tuple[Path, dict[str, Any]]) -> None:
    run = Run(whole[0] / "runs" / "gan-seed0")
    lock = FileLock(run.folder / ".lock", thread_local=False)
    lock.acquire()
    released: list[float] = []

    def release() -> None:
        time.sleep(0.3)
        released.append(time.monotonic())
        lock.release()

    thread = threading.Thread(target=release)
    thread.start()
    comparing.await_others(run, pause=0.05)
    assert released
    thread.join()
    assert comparing.complete(run, asked(None, 600))


def asked(minutes: float | None, images: int | None) -> Any:
    """A plan of which only this is asked for."""
    return SimpleNamespace(asked={"minutes": minutes, "images": images}, device="cpu")


def test_a_training_that_was_cut_short_goes_on_where_more_time_is_given(tmp_path: Path) -> None:
    how = {"out": tmp_path / "run", "images": "10M", "time": 0.2, "width": 8, "threads": 1, "precision": "fp32"}
    run = leafwing.train("ring", "lsgan", **how)
    spent = run.records()[-1]["seconds"]
    assert comparing.complete(run, asked(spent / 60, 10_000_000))
    assert not comparing.complete(run, asked(2 * spent / 60, 10_000_000))
    assert not comparing.complete(run, asked(spent / 60, None)), "with minutes alone there is more time"
    assert not comparing.complete(run, asked(None, 10_000_000))


@pytest.mark.parametrize("name", [name for name in recipes.names() if supports(name, PICTURES)])
def test_the_generators_steps_are_counted_as_the_loop_plays_them(name: str) -> None:
    training = start(name, PICTURES, images=100)
    taken, take = [], training.engine.take

    def counting(unit: Any, batch: Any, clock: Clock) -> Any:
        taken.extend(turn for turn in unit if "G" in turn.movers)
        return take(unit, batch, clock)

    training.engine.take = counting  # type: ignore[method-assign]
    list(training.ticks(50))
    game = build(name, PICTURES)
    entrant = entering.Entrant(name, {}, {}, game.batch, game.turns, 0)
    assert telling.generator_steps(entrant, 100, training.clock.images) == len(taken)
    assert telling.generator_steps(entrant, 100, training.clock.images, "H") is None


def test_variety_is_that_of_the_final_samples_beside_real_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits", size=16)
    real = torch.from_numpy(data.pictures(range(256, 512))).permute(0, 3, 1, 2).float() / 127.5 - 1

    class Trained:
        """A model that returns real pictures with part of their contrast, and noise that is gone at 8x8."""

        def __init__(self, contrast: float) -> None:
            self.contrast = contrast

        def sample(self, n: int, seed: int) -> torch.Tensor:
            return self.contrast * real[:n] + 0.2 * torch.tensor([1.0, -1.0]).repeat(8)

    found = []
    for contrast in (1.0, 0.5, 0.0):
        monkeypatch.setattr(Model, "load", lambda run, contrast=contrast: Trained(contrast))
        found.append(telling.variety(Run, data))  # type: ignore[arg-type]
    assert found[0] == pytest.approx(1.0, abs=0.05)
    assert found[1] == pytest.approx(found[0] / 2, rel=1e-3)
    assert found[2] == 0.0


def test_progress_is_said_with_what_is_left(whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    progress = Silent()
    progress.say = said.append  # type: ignore[method-assign]
    out, _ = whole

    class Book:
        def of(self, name: str, seed: int) -> dict[str, Any]:
            return {"status": "finished", "said": ""}

        def run(self, name: str, seed: int) -> Path:
            return out / "runs" / "gan-seed0"

    class Plan:
        runs, images, jobs = [("gan", 0), ("gan", 1), ("gan", 2)], {"gan": 1200}, 1

    watch = comparing.Watch(Plan(), Book(), progress)  # type: ignore[arg-type]
    watch()
    assert said == [], "not more often than every half minute"
    now = time.monotonic()
    watch.started["gan", 0] = now - 100
    watch.trained("gan", 0)
    assert said == ["gan seed 0 finished in 1m 40s"]
    watch.ended("gan", 0, fresh=True)
    watch.started["gan", 1], watch.spoke = now - 60, now - 40
    watch()
    assert said[1].startswith("gan seed 1: 600 of 1.2k images, ")
    assert said[2] == "1 of 3 runs done, about 2m 40s left", "of 110 s each, the second is half done"
    assert comparing.last_record(out / "nothing") == {}
    diverged = {"images": 700, "seconds": 1.0, "costs": {}, "diverged": "D became nan"}
    monkeypatch.setattr(comparing, "last_record", lambda log: diverged)
    watch.spoke = now - 40
    watch()
    assert said[3] == "gan seed 1: 700 of 1.2k images"
