from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import leafwing
from bare_run import create, untrained
from leafwing import cli, recipes
from leafwing.commands.figures import as_text
from leafwing.commands.plan import resolve_training
from leafwing.commands.recommend import open_start
from leafwing.commands.transfer import find_start, freeze, start_from, trained_on, unwrapped
from leafwing.config import Start
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import DataSpec
from leafwing.progress import Reporter
from leafwing.recipes._recommended import RECOGNISABLE
from leafwing.runs import Run
from leafwing.settings import TransferSettings, split_keywords
from tiny import PICTURES, build

TINY: dict[str, Any] = {
    "size": 16, "width": 4, "max_width": 8, "batch": 8, "images": 64, "threads": 1, "precision": "fp32", "save_every": 32,
}  # fmt: skip


class Lines(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("earlier") / "run"
    return leafwing.train("digits", "dcgan", out=folder, ema=100, **TINY)


def weights(run: Run, images: int) -> dict[str, torch.Tensor]:
    return load_file(run.weights()[images])


def test_a_training_starts_from_the_weights_of_another(earlier: Run, tmp_path: Path) -> None:
    lines = Lines()
    run = leafwing.train(
        "digits", "dcgan", out=tmp_path / "run", start=str(earlier.folder), ema=50, seed=5, lr_g=1e-30, lr_d=1e-30, progress=lines,
        **{**TINY, "images": 16},
    )  # fmt: skip
    before, after = weights(earlier, 64), weights(run, 16)
    for name, value in before.items():
        if name.startswith(("G:", "D:")) and "running" not in name and "num_batches" not in name:
            assert torch.equal(value, after[name]), name
    start = run.history.start
    assert start is not None
    assert (start.images, start.loaded) == (64, start.of)
    assert any(line == f"start: {start.of} of {start.of} tensors from {earlier.folder} at 64 images" for line in lines.lines)


def test_an_earlier_checkpoint(earlier: Run, tmp_path: Path) -> None:
    run = leafwing.train(
        "digits", "dcgan", out=tmp_path / "run", start=f"{earlier.folder}@32", ema=50, **{**TINY, "images": 16}
    )
    assert run.history.start is not None
    assert run.history.start.images == 32
    with pytest.raises(LeafwingError, match=r"no checkpoint at 48 images; available: 32, 64"):
        leafwing.train("digits", "dcgan", out=tmp_path / "other", start=f"{earlier.folder}@48", **TINY)
    assert not (tmp_path / "other").exists()


def test_what_does_not_fit_is_listed_and_begins_anew(earlier: Run, tmp_path: Path) -> None:
    """Another number of channels changes the layers next to the image; averages begin as a copy of the weights."""
    lines = Lines()
    run = leafwing.train(
        "digits", "dcgan", out=tmp_path / "run", start=str(earlier.folder), channels=3, ema=50, progress=lines, lr_g=1e-30,
        **{**TINY, "images": 8},
    )  # fmt: skip
    (line,) = (line for line in lines.lines if line.startswith("not there or of another shape"))
    assert "D:body.0.weight (4x3x4x4, there 4x1x4x4)" in line
    start = run.history.start
    assert start is not None
    assert 0 < start.loaded < start.of
    before, after = weights(earlier, 64), weights(run, 8)
    assert torch.equal(before["G:body.0.weight"], after["G:body.0.weight"])


def test_averages_that_are_missing_begin_as_the_weights(tmp_path: Path) -> None:
    plain = leafwing.train("digits", "dcgan", out=tmp_path / "plain", **TINY)
    run = leafwing.train(
        "digits", "dcgan", out=tmp_path / "run", start=str(plain.folder), ema=50, lr_g=1e-30, **{**TINY, "images": 8}
    )
    after = weights(run, 8)
    assert torch.allclose(after["G.average:body.0.weight"], weights(plain, 64)["G:body.0.weight"], atol=1e-6)


def test_a_mean_of_past_weights_begins_with_those_that_were_taken(tmp_path: Path) -> None:
    options = {**TINY, "discrimination": False, "lr_g": 1e-30, "lr_d": 1e-30}
    plain = leafwing.train("digits", "improved_gan", out=tmp_path / "plain", **options)
    run = leafwing.train("digits", "improved_gan", out=tmp_path / "run", start=str(plain.folder), history=1.0, **options)
    assert all(abs(record["losses"][f"{name}/history_{name}"]) < 1e-12 for record in run.records() for name in "GD")


def test_a_mean_of_weights_of_another_shape_begins_with_those_that_were_taken(tmp_path: Path) -> None:
    """Its count fits, unlike the mean."""
    options = {"latent": 4, "width": 4, "max_width": 8, "history": 1.0}
    run = untrained(tmp_path / "run", "improved_gan", options, PICTURES)
    game = recipes.build("improved_gan", recipes.find("improved_gan"), PICTURES, {**options, "latent": 6})
    start_from(game, str(run.folder))
    for name in "GD":
        term, net = game.modules()[f"term.history_{name}"], game.players[name].net
        assert torch.equal(term.mean, torch.cat([weight.flatten() for weight in net.parameters()])), name


def test_a_dry_run_takes_the_weights_and_counts_the_images_of_all_trainings_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("leafwing.commands.forecast"), "measured_parts", lambda training: [(1.0, 50.0)]
    )
    options = {"latent": 4, "width": 4, "max_width": 8}
    run, lines = untrained(tmp_path / "run", "dcgan", options, DataSpec.images(32, 32)), Lines()

    def dry_run(**further: Any) -> dict[str, Any]:
        values = {**options, "size": 32, "channels": 3, "images": 80, "threads": 1, "precision": "fp32", **further}
        return leafwing.forecast("digits", "dcgan", start=str(run.folder), progress=lines, **values)

    run.update(start=Start("first", RECOGNISABLE, "", 1, 1))
    assert not dry_run()["expect"]
    assert any(line.startswith("start: ") for line in lines.lines)
    assert open_start(str(run.folder))[1] == RECOGNISABLE + 128
    with pytest.raises(InvalidOption, match="no weight of dcgan at 128 images fits"):
        dry_run(width=5, max_width=7, latent=6)


@pytest.mark.parametrize("first", ["cgan", "dcgan"])
def test_networks_with_labels_and_without_share_their_weights(first: str, tmp_path: Path) -> None:
    """Those with labels are wrapped; only G's first layer has another shape, and D's embedding no counterpart."""
    options = {"latent": 4, "width": 4, "max_width": 8}
    run = untrained(tmp_path / "run", first, options | {"ema": 50}, PICTURES)
    second = "dcgan" if first == "cgan" else "cgan"
    game = recipes.build(second, recipes.find(second), PICTURES, options | {"ema": 50})
    lines: list[str] = []
    start = start_from(game, str(run.folder), lines.append)
    assert start.of - start.loaded == (2 if first == "cgan" else 3)  # G's, its average, and the embedding
    theirs = weights(run, 128)
    for name, value in game.tensors().items():
        if any(f"{name} " in f"{line} " for line in lines) or "embedding" in name:
            continue
        assert torch.equal(value, {unwrapped(key): value for key, value in theirs.items()}[unwrapped(name)]), name


def test_other_networks_are_refused(earlier: Run, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"start.*no weight of dcgan at 64 images fits these networks"):
        leafwing.train("ring", "gan", out=tmp_path / "run", start=str(earlier.folder), images=64, threads=1)
    assert not (tmp_path / "run").exists()


def test_a_run_that_started_from_another_resumes_without_it(earlier: Run, tmp_path: Path) -> None:
    options = {**TINY, "start": str(earlier.folder), "freeze": "D:2", "ema": 20}
    whole = leafwing.train("digits", "dcgan", out=tmp_path / "whole", **options)
    leafwing.train("digits", "dcgan", out=tmp_path / "part", **{**options, "images": 32, "save_every": 32})
    part = leafwing.resume(tmp_path / "part", images=64)
    assert whole.weights()[64].read_bytes() == part.weights()[64].read_bytes()


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ({}, {}, True),
        ({"held_out": 299}, {}, True),
        ({"held_out": 300}, {}, False),
        ({"held_out": 300, "duplicates": 2}, {}, True),
        ({"held_out": 300}, {"fingerprint": "0" * 64}, True),  # read in another way, so that others are held out
        ({}, {"fingerprint": "0" * 64, "source": "/dogs"}, False),
    ],
)
def test_images_that_the_other_training_saw_are_not_unseen(
    before: dict[str, Any], now: dict[str, Any], shown: bool, tmp_path: Path
) -> None:
    first = create(tmp_path / "first")
    first.update(data=replace(first.data, **before))
    second = create(tmp_path / "second")
    second.update(data=replace(first.data, source="/other", fingerprint="1" * 64))
    data = replace(first.data, **{"held_out": 300, "duplicates": None, **now})
    assert trained_on(first, data) == shown
    assert not trained_on(second, data)
    second.update(start=Start(str(first.folder), 8, "", 1, 1))
    assert trained_on(second, data) == shown


def test_images_that_the_other_training_saw_are_marked_in_evaluations(earlier: Run, tmp_path: Path) -> None:
    lines = Lines()
    options = {**TINY, "images": 8, "start": str(earlier.folder), "ema": 50, "hold_out": 128}
    run = leafwing.train("digits", "dcgan", out=tmp_path / "run", progress=lines, **options)
    assert any("they are not unseen" in line for line in lines.lines)
    rows = leafwing.evaluate(run, metrics="swd", n=128)
    assert rows[0]["protocol"]["trained_on_held_out"]
    assert "128 held-out images, not unseen: trained on held-out images too" in as_text(rows)


def test_the_run_may_be_under_another_root_or_in_a_folder_with_an_at_sign(earlier: Run, tmp_path: Path) -> None:
    root = tmp_path / "a@b"
    shutil.copytree(earlier.folder, root / "0001-x@2")
    for option in ("1", "1@32", "0001-x@2", "0001-x@2@32", f"{root / '0001-x@2'}", f"{root / '0001-x@2'}@32"):
        run, images = find_start(option, root)
        assert (run.name, images) == ("0001-x@2", 32 if option.endswith("32") else 64), option
    for option, message in (("1@48", "no checkpoint at 48"), ("1@soon", "checkpoint='soon'"), (f"{root}/none", "no run")):
        with pytest.raises(LeafwingError, match=message):
            find_start(option, root)
    run = leafwing.train("digits", "dcgan", root=root, start="1", **{**TINY, "images": 8}, ema=50)
    assert run.history.before == 64
    assert leafwing.train("digits", "dcgan", root=root, start="2", **{**TINY, "images": 8}, ema=50).history.before == 64 + 8
    assert run.history.start.folder == str((root / "0001-x@2").resolve())


def test_frozen_layers_are_not_trained(earlier: Run, tmp_path: Path) -> None:
    run = leafwing.train("digits", "dcgan", out=tmp_path / "run", start=str(earlier.folder), freeze="D:2", ema=20, **TINY)
    before, after = weights(earlier, 64), weights(run, 64)
    trained = {
        name
        for name in before
        if name.startswith("D:") and "running" not in name and not torch.equal(before[name], after[name])
    }
    assert not any(
        name.startswith(("D:body.0.", "D:body.2.", "D:body.3.")) for name in trained - {"D:body.3.num_batches_tracked"}
    )
    assert "D:out.weight" in trained


def test_layers_with_spectral_normalisation() -> None:
    game = build("sngan", PICTURES)
    freeze(game, "D:1")
    frozen = [name for name, weight in game.players["D"].net.named_parameters() if not weight.requires_grad]
    assert [name.split(".")[1] for name in frozen] == ["0"] * len(frozen)
    assert len(frozen) == 2


def test_a_run_that_stopped_before_its_first_checkpoint_begins_from_the_same_weights(earlier: Run, tmp_path: Path) -> None:
    run = leafwing.train("digits", "dcgan", out=tmp_path / "run", start=f"{earlier.folder}@32", ema=50, **TINY)
    expected = run.weights()[64].read_bytes()
    for path in run.weights().values():
        path.unlink()
    torch.save({"begun": True}, run.folder / "resume.pt")  # as training writes it at its start
    assert leafwing.resume(run.folder).weights()[64].read_bytes() == expected
    start = run.history.start
    run.update(start=replace(start, sha256="0" * 64))  # as if the other run had other weights now
    replayed = leafwing.train(out=tmp_path / "again", replay=run.folder, progress=(lines := Lines()))
    assert any("other weights at 32 images than when the replayed run began" in line for line in lines.lines)
    assert replayed.history.start is not None
    assert replayed.history.start.images == 32
    assert replayed.weights()[64].read_bytes() == expected


def test_networks_that_the_other_training_looked_through_are_remembered(tmp_path: Path) -> None:
    small: dict[str, Any] = {"distance": "pixels", "size": 16, "width": 2, "batch": 4, "images": 8, "threads": 1}
    first = leafwing.train("sprites", "fastgan", out=tmp_path / "a", **small)
    assert not first.pretrained
    config = json.loads((first.folder / "run.json").read_text())
    (first.folder / "run.json").write_text(json.dumps({**config, "pretrained": ["lite0"]}))
    second = leafwing.train("sprites", "fastgan", out=tmp_path / "b", start=str(first.folder), **small)
    assert second.pretrained == ("lite0",)


def test_layers_that_are_never_trained_do_not_count() -> None:
    game = build("projected", PICTURES)
    lines: list[str] = []
    freeze(game, "D:1", lines.append)
    (line,) = lines
    assert line.startswith("frozen: the layers heads.0.")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("D", "must be players and numbers"),
        ("E:1", "no player 'E'; available: G, D"),
        ("D:9", r"D has 3 trained layers; at most 2 can be frozen"),
        ("D:1,G:1,D:2", "names the player D twice"),
        ("D:x", "freeze"),
    ],
)
def test_freezing_what_is_not_there(option: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        freeze(build("dcgan", PICTURES), option)


def test_a_player_with_a_single_layer_or_none_cannot_be_frozen() -> None:
    game = build("dcgan", PICTURES)
    for layers, number in ((torch.nn.Linear(2, 2), "1 trained layer"), (torch.nn.ReLU(), "0 trained layers")):
        game.players["D"].net = torch.nn.Sequential(layers)
        with pytest.raises(InvalidOption, match=f"D has {number}; nothing of it can be frozen"):
            freeze(game, "D:1")


def test_from_the_command_line(earlier: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--out", str(tmp_path / "run"), "--start", str(tmp_path / "none"), "--images", "8"]
    assert cli.run(words) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def replayable(folder: Path) -> Run:
    """A run of digits with settings that a replay inherits."""
    run = create(folder, source="digits")
    data = replace(run.data, held_out=5_000, labelled=10, labelled_seed=0, options={"input": "low2", "crop_from": [20, 20]})
    transfer, schedule = (
        TransferSettings(f"{folder}/gone@8", "D:1"),
        replace(run.settings.schedule, stop_on="kid", patience=2),
    )
    run.update(replace(run.settings, transfer=transfer, schedule=schedule), data)
    return run


def test_none_turns_off_what_a_replay_inherits(tmp_path: Path) -> None:
    run = replayable(tmp_path / "run")
    names = ("start", "freeze", "stop_on", "input", "crop_from", "labelled")
    values, _ = split_keywords({**dict.fromkeys(names, "none"), "hold_out": 0, "size": 16})
    plan = resolve_training(None, None, values, {}, Reporter(), run)
    assert plan.settings.transfer == TransferSettings()
    assert (plan.settings.schedule.stop_on, plan.data_config.held_out, plan.data_config.labelled) == (None, 0, None)
    assert [*plan.data.columns] == ["image", "label"]
    assert "crop_from" not in plan.data_config.options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"start='.*gone@8': as in .*run: .*no run.*--start none begins with random weights"),
        ({"start": "none"}, r"hold_out=5000: as in .*run: the data set has only 1,797 images"),
        ({"start": "none", "hold_out": 6_000}, r"hold_out=6000: the data set has only"),
        ({"start": "none", "hold_out": 100, "freeze": "X:1"}, r"freeze='X:1': no player"),
    ],
)
def test_an_invalid_option_that_a_replay_inherits_is_not_the_users(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = replayable(tmp_path / "run")
    with pytest.raises(LeafwingError, match=message):
        leafwing.train(replay=run, out=tmp_path / "again", input="none", crop_from="none", size=16, **given)
    assert not (tmp_path / "again").exists()
