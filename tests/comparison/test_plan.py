"""The plan and the record of a comparison: arguments, what trainings are called with, the machine's slots, `compare.json`."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from fake_workers import FakeWorkers
from leafwing import cli, commands, data, machine
from leafwing.commands import capacity
from leafwing.commands.comparison import child, compare, plan, speed
from leafwing.commands.comparison.record import load
from leafwing.errors import LeafwingError
from leafwing.machine import processor
from leafwing.progress import ConsoleReporter
from leafwing.settings import DataSettings, HardwareSettings, OutputSettings, Schedule
from paired import paired_data, write_recipe
from small_comparison import RING, Finished, plan_of

# --- arguments --------------------------------------------------------------------------------------------------------------


def test_options_are_assigned_to_the_recipes_that_have_them() -> None:
    references = {"gan": "gan", "wgan_gp": "wgan_gp"}
    options = plan.assign_options(["width=32", "wgan_gp.width=16", "penalty=1", "gan.lr-g=0.5"], references)
    assert options == {"gan": {"width": "32", "lr_g": "0.5"}, "wgan_gp": {"width": "16", "penalty": "1"}}
    for text, message in (
        ("widht=3", "options=.widht.* did you mean width"),
        ("lsgan.width=3", "recipe 'lsgan'"),
        ("gan.penalty=3", "recipe gan has no option 'penalty'"),
        ("width=no", "recipe gan: width='no'"),
        ("width", "write name=value"),
    ):
        with pytest.raises(LeafwingError, match=message):
            plan.assign_options([text], references)


def test_seeds_are_a_number_or_a_list() -> None:
    assert plan.parse_seeds("3") == plan.parse_seeds(3) == [0, 1, 2]
    assert plan.parse_seeds("7,9") == plan.parse_seeds([7, 9]) == [7, 9]
    for value in ("0", "-1", "a", "1,1", [], "1,x"):
        with pytest.raises(LeafwingError, match="seed"):
            plan.parse_seeds(value)
    for too_many in ("1000000000", 1_001, [*range(1_001)]):
        with pytest.raises(LeafwingError, match="at most 1,000 seeds"):
            plan.parse_seeds(too_many)
    with pytest.raises(LeafwingError, match="seed"):
        plan.parse_seeds([0, 2**32])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": "gan,gna"}, "did you mean gan"),
        ({"recipes": "gan,gan"}, "recipes='?gan,gan"),
        ({"recipes": ""}, "at least one"),
        ({"metrics": "mods"}, "did you mean modes"),
        ({"minutes": 0}, "minutes='?0"),
        ({"jobs": 0}, "jobs"),
        ({"images": "x"}, "images"),
        ({"recipes": "dcgan"}, "points"),
        ({"device": "tpu"}, "choose from auto, cpu, cuda, mps"),
        ({"sise": 16}, "no argument 'sise'; did you mean size"),
        ({"n": 0}, "n=.?0"),
        ({"n": "1000g"}, "needs about .* of memory.*: at most .* samples"),
        ({"features": "pixel"}, "no feature network 'pixel'; did you mean pixels"),
        ({"features": "inception", "weights": "missing.pth"}, "weights='?missing.pth"),
        ({"weights": "missing.pth"}, "weights='?missing.pth"),
        ({"metrics": "fid"}, "metric fid"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(
    change: dict[str, Any], message: str, tmp_path: Path, fake_workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafwing.commands.real_data.available_memory", lambda: 8 << 30)
    with pytest.raises(LeafwingError, match=message):
        commands.compare("ring", **{**RING, "options": (), **change}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert fake_workers.requests == []


def test_trainings_get_all_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resolved = plan_of(
        "digits",
        tmp_path / "out",
        recipes=["gan", "cgan"],
        options={"gan.saturating": True, "width": 8},
        size="16x32",
        fit="pad",
        background="#ff0000",
        mirror=True,
        hold_out=30,
        minutes=1.5,
        images="1k",
    )
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        child, "train", lambda **given: calls.append(given) or SimpleNamespace(stop_reason="interrupted", folder="run")
    )
    monkeypatch.setattr(child, "try_to_animate", lambda run: (None, ""))
    request = {"call": "train", "arguments": {**compare.training_arguments(resolved, "gan", 7), "out": "run"}}
    assert child.main(json.dumps(request)) == 130
    (arguments,) = calls
    settings = arguments["settings"]
    assert settings.reading == DataSettings("16x32", 1, "pad", background="#ff0000", mirror=True, hold_out=30)
    assert settings.schedule == Schedule(images=1000, time=90.0, seed=7)
    assert settings.folder == OutputSettings(save_every=25, keep_last=1, keep_every=5, grid_every=50)
    assert settings.machine == HardwareSettings(device="cpu", threads=resolved.threads)
    others = {"source": "digits", "recipe": "gan", "out": "run", "saturating": True, "width": 8}
    assert {name: arguments[name] for name in others} == others
    assert "saturating" not in compare.training_arguments(resolved, "cgan", 0)


def test_trainings_on_16_bits_get_what_was_resolved(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for i in range(3):
        Image.fromarray(np.full((16, 16), 20_000 * i, np.uint16)).save(tmp_path / f"set/{i}.png")
    resolved = plan_of(str(tmp_path / "set"), tmp_path / "out", recipes="dcgan,gan", bits=16, hold_out=0, metrics="swd", n=2)
    assert resolved.data.spec.fields["image"].bits == 16
    settings = json.loads(json.dumps(compare.training_arguments(resolved, "gan", 0)["settings"]))
    assert child.read_settings(settings).reading.bits == "16"


def test_speed_measurements_get_all_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"size": "16x32", "fit": "pad", "mirror": True, "hold_out": 30, "minutes": 1.5, "options": {"cgan.width": 8}}
    resolved = plan_of("digits", tmp_path / "out", recipes=["gan", "cgan"], **arguments)
    measured: list[Any] = []
    monkeypatch.setattr(speed, "measure_slice", lambda *given: measured.append(given) or float(len(measured)))
    evaluated: list[Any] = []
    monkeypatch.setattr(speed, "measure_evaluation", lambda *given: evaluated.append(given) or 0.5)
    request = json.dumps({"call": "speed", "arguments": speed.measurement_arguments(resolved, ["gan", "cgan"], 1)})
    assert child.main(request) == 0
    answer = capsys.readouterr()
    (log := tmp_path / "log.txt").write_text(f"measured before\n{answer.err}")
    reports: list[tuple[int, int]] = []
    counter = speed.SliceCounter([log, tmp_path / "none.txt"], 12, lambda what, done, total: reports.append((done, total)))
    counter.update()
    with log.open("a") as file:
        file.write("$ a command\n" + answer.err)
    counter.update()
    assert reports == [(0, 12), (6, 12)], "only what was measured since"
    result = json.loads(answer.out)
    assert result["training"] == {"cgan": [1.0, 3.0, 5.0], "gan": [2.0, 4.0, 6.0]}, "round robin"
    assert (result["evaluation"], len(evaluated)) == ({"cgan": 0.5, "gan": 0.5}, 2)
    assert result["load"] >= 1
    source, recipe, settings, options = measured[0]
    assert (source, recipe, options) == ("digits", "cgan", {"width": 8})
    assert settings.reading == DataSettings("16x32", 1, "pad", background="white", mirror=True, hold_out=30)
    assert settings.schedule.seed == 1
    assert settings.machine == HardwareSettings(device="cpu", threads=resolved.threads)

    def fail(*given: Any) -> float:
        raise LeafwingError("no memory")

    monkeypatch.setattr(speed, "measure_slice", fail)
    assert child.main(request) == 2
    assert capsys.readouterr().err == "leafwing: the speed of cgan cannot be measured: no memory\n"


def test_options_of_all_recipes_are_arguments_as_of_train(tmp_path: Path) -> None:
    resolved = plan_of(
        "digits", tmp_path / "out", recipes="gan,cgan", images=100, width=8, options={"gan.width": 4}, size=16
    )
    assert [recipe.resolved["width"] for recipe in resolved.recipes.values()] == [4, 8]
    assert "--set width=8 --set gan.width=4" in resolved.command
    with pytest.raises(LeafwingError, match=r"gan has no option 'penalty'\. For the others: options="):
        plan_of("digits", tmp_path / "out", recipes="gan,wgan_gp", images=100, penalty=3)
    with pytest.raises(LeafwingError, match=r"compare has no argument 'widht'"):
        plan_of("digits", tmp_path / "out", recipes="gan,cgan", images=100, widht=8)


def test_steps_are_of_the_batch_size_that_was_set(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match="images=800 for 100 steps of 8 images"):
        plan_of("digits", tmp_path / "out", recipes="dcgan,lsgan", options=["batch=8"], steps=100)


def test_the_command_in_the_report_has_all_arguments(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "recipes": "gan,cgan", "seeds": "4,5", "images": "1k", "minutes": 2.0123456, "size": "16", "mirror": True, "hold_out": 30,
        "options": ["width=8", "gan.lr_g=0.5"], "metrics": "fid,kid", "n": 50, "features": "pixels", "jobs": 2, "device": "cpu",
    }  # fmt: skip
    words = shlex.split(plan_of("digits", tmp_path / "out", **arguments).command)[1:]
    command, bound, unused = cli.commands_for(words).parse_args(words, exit_on_error=False, print_error=False)
    assert (command.__module__, unused) == ("leafwing.cli.compare", {})  # type: ignore[attr-defined]
    parsed = bound.arguments | {"options": bound.arguments["set"]}
    assert {name: str(parsed[name]) for name in arguments} == {name: str(value) for name, value in arguments.items()}
    assert plan.option_words("size", (16, 32)) == ["--size", "16x32"]
    assert plan.option_words("mirror", False) == ["--no-mirror"]


def test_every_message_about_the_data_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shapes"
    for i in range(8):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(folder / "ab"[i % 2] / f"{i}.png")
    texts: list[str] = []
    monkeypatch.setattr(ConsoleReporter, "say", lambda self, text: texts.append(text))
    plan_of(str(folder), tmp_path / "out", recipes="dcgan,lsgan", size=16, hold_out=0, options=["width=4"], jobs=1)
    assert texts.count("The folder names are the labels.") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "left out: 4 real images are too few for prdc (at least 6); see --hold-out"),
        ({"hold_out": 1}, "left out: 1 real image is too few for fid (at least 2), kid (at least 3), prdc (at least 6);"),
        ({"hold_out": 6}, ""),
        ({"metrics": "fid,kid"}, ""),
        (
            {"metrics": "fid,prdc"},
            "metrics='fid,prdc': 4 real images are too few for prdc (at least 6): hold out more (--hold-out 6)",
        ),
        ({"n": 3}, "n=3: too few samples for prdc (at least 6)"),
    ],
)
def test_metrics_that_few_pairs_do_not_allow(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a tenth of the pairs is held out. Default metrics are left out, and named ones refused before any training."""
    texts: list[str] = []
    monkeypatch.setattr(ConsoleReporter, "say", lambda self, text: texts.append(text))
    pairs = replace(paired_data(40), fingerprint="40" * 32)
    monkeypatch.setattr(data, "load", lambda source, **options: pairs)
    (tmp_path / "pairs").mkdir()
    arguments = {"recipes": str(write_recipe(tmp_path)), "seeds": 1, "jobs": 1, "input": "left", **arguments}
    if message and not message.startswith("left out"):
        with pytest.raises(LeafwingError, match=re.escape(message)):
            commands.compare(tmp_path / "pairs", **arguments, out=tmp_path / "out")
        return
    plan_of(str(tmp_path / "pairs"), tmp_path / "out", **arguments)
    assert [text[: len(message)] for text in texts if text.startswith("left out")] == [message] * bool(message)


def test_recipes_are_not_compared_without_a_metric_that_ranks_them(tmp_path: Path) -> None:
    with pytest.raises(
        LeafwingError, match=r"1 real image is too few for fid .*prdc \(at least 6\): hold out more \(--hold-out 6\)"
    ):
        commands.compare("digits", "dcgan", size=16, hold_out=1, options=["width=4"], jobs=1, out=tmp_path / "out")


# --- one task ---------------------------------------------------------------------------------------------------------------


def test_recipes_must_generate_the_same_from_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_workers: FakeWorkers
) -> None:
    pairs, source = paired_data(), str(tmp_path / "pairs")
    Path(source).mkdir()
    monkeypatch.setattr(data, "load", lambda source, **options: pairs)
    scale = str(write_recipe(tmp_path))
    for names, message in (
        (["dcgan", scale], "dcgan generates image from latents, and scale image from input"),
        ([scale, "dcgan"], "scale generates image from input, and dcgan image from latents"),
    ):
        with pytest.raises(LeafwingError, match=message):
            commands.compare(source, names, out=tmp_path / "out", seeds=1, jobs=1)
    for metrics, message in (("ppl", "metric ppl .*without latents"), ("modes", "modes")):
        with pytest.raises(LeafwingError, match=message):
            commands.compare(source, scale, metrics=metrics, out=tmp_path / "out", seeds=1, jobs=1)
    with pytest.raises(LeafwingError, match="metric reconstruction"):
        commands.compare(source, "dcgan", metrics="reconstruction", out=tmp_path / "out", seeds=1, jobs=1)
    assert not (tmp_path / "out").exists()
    assert fake_workers.requests == []
    resolved = plan_of(source, tmp_path / "out", recipes=scale, metrics="reconstruction", seeds=1, jobs=1, input="left")
    assert resolved.settings(0).reading.input == "left", "trainings read the same inputs"
    assert "--input left" in resolved.command


# --- the machine ------------------------------------------------------------------------------------------------------------


def test_trainings_share_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "cores", lambda: 8)
    resolved = plan_of("ring", tmp_path / "out", **{**RING, "jobs": None})
    assert (resolved.jobs, resolved.threads) == (4, 2), "no more jobs than runs, and the cores are shared"
    assert plan.slots(resolved) == [{"OMP_NUM_THREADS": "2"}] * 4
    footprint = max(recipe.footprint for recipe in resolved.recipes.values())
    monkeypatch.setattr(plan, "available_memory", lambda: int(2.6 * footprint))
    limited = plan_of("ring", tmp_path / "out", **{**RING, "jobs": None})
    assert limited.jobs == 2, "as many as fit into four fifths of the memory"
    said: list[str] = []
    progress = SimpleNamespace(say=lambda text: None, warn=said.append, report_progress=lambda *done: None)
    monkeypatch.setattr(compare, "reporter_of", lambda progress: progress)
    assert plan_of("ring", tmp_path / "out", **{**RING, "jobs": 2}, progress=progress).jobs == 2
    assert said == []
    assert plan_of("ring", tmp_path / "out", **{**RING, "jobs": 3}, progress=progress).jobs == 3
    assert "3 trainings at a time need about" in said[0]
    assert said[0].endswith("try --jobs 2")
    assert machine.cores() >= 1
    assert (machine.available_memory() or 1) > 0
    assert processor()


def test_a_training_that_does_not_fit_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_workers: FakeWorkers
) -> None:
    monkeypatch.setattr(capacity, "free_memory", lambda device: 16 << 20)
    with pytest.raises(LeafwingError, match=r"training lsgan needs about .* with batches of 100,000.*try --batch \d+$"):
        commands.compare(
            "ring", **{**RING, "recipes": "gan,lsgan", "options": ("batch=8", "lsgan.batch=100000")}, out=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
    assert fake_workers.requests == []


def test_each_training_has_one_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resolved = plan_of("ring", tmp_path / "out", **RING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    resolved.conditions, resolved.jobs = msgspec.structs.replace(resolved.conditions, device="cuda"), 3
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in plan.slots(resolved)] == ["2", "5", "2"]


# --- compare.json -----------------------------------------------------------------------------------------------------------


def test_a_folder_with_other_content_is_refused(tmp_path: Path, fake_workers: FakeWorkers) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LeafwingError, match="not the folder of a comparison"):
        commands.compare("ring", **RING, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "compare.json").write_text("{}")
    with pytest.raises(LeafwingError, match=r"compare\.json: command is missing"):
        commands.compare("ring", **RING, out=out)
    (out / "compare.json").unlink()
    (out / "runs" / "mine").mkdir()
    with pytest.raises(LeafwingError, match="not the folder of a comparison"):
        commands.compare("ring", **RING, out=out)
    (out / "runs" / "mine").rmdir()
    (out / ".lock").touch()
    with FileLock(out / ".lock"), pytest.raises(LeafwingError, match="another leafwing compare is running"):
        commands.compare("ring", **RING, out=out)
    assert fake_workers.requests == []


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["threads"], "two", r"threads: expected `int`"),
        (["asked", "minutes"], "2", r"asked\.minutes: expected `float \| null`"),
        (["recipes", "gan", "options"], [], r"recipes\.gan\.options: expected `object`"),
        (["runs", "gan-seed1", "status"], "done", r"runs\.gan-seed1\.status: invalid enum value 'done'"),
        (["runs", "gan-seed1", "numbers", 2, "images"], None, r"runs\.gan-seed1\.numbers\[2\]\.images: expected `int`"),
        (["runs"], 3, r"runs: expected `object`"),
    ],
)
def test_a_damaged_record_is_refused_with_the_key_named(
    finished: Finished, tmp_path: Path, keys: list[Any], value: Any, message: str
) -> None:
    content = json.loads((finished[0] / "compare.json").read_text())
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(content))
    assert msgspec.to_builtins(load(path)) == content
    *parents, last = keys
    entry = content
    for key in parents:
        entry = entry[key]
    entry[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(LeafwingError, match=r"compare\.json: " + message):
        load(path)
    path.write_text("{")
    with pytest.raises(LeafwingError, match=r"compare\.json: not valid JSON"):
        load(path)


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    asked = {
        "source": "ring",
        "data": {},
        "fingerprint": "f",
        "held_out": 0,
        "images": 600,
        "minutes": None,
        "device": "cpu",
    }
    runs = {"gan-seed0": {"processor": None}, "gan-seed1": {"status": "failed", "said": "no memory"}}
    content = {"command": "leafwing compare", "asked": asked, "recipes": {"gan": {"reference": "gan", "options": {}}}}
    path = tmp_path / "compare.json"
    path.write_text(json.dumps({**content, "seeds": [0, 1], "images": {"gan": 600}, "threads": 1, "runs": runs}))
    record = load(path)
    assert record.recipes["gan"].digest == ""
    assert (record.runs["gan-seed0"].status, record.runs["gan-seed1"].message) == (None, "no memory")
