"""The commands when data, cache, disk or recipe of a run change, and the options of training and sampling."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from leafwing import cli, commands, fields, files, layout, pictures, recipes, settings
from leafwing.cli.train import CALL_OPTIONS, describe_plan
from leafwing.data import Dataset, load
from leafwing.engine import Setup
from leafwing.errors import Diverged, LeafwingError, StorageError
from leafwing.progress import Reporter
from leafwing.runs import Run
from slow_turns import SlowTurns

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
FORMATS = ("grid", "folder", "npz")


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


def test_reserved_names_are_the_arguments_of_train() -> None:
    own = {name for name in inspect.signature(commands.train).parameters if name != "options"}
    assert own | {*CALL_OPTIONS} == {*settings.TRAIN_ARGUMENTS}
    assert settings.reserved_names() == {*settings.TRAIN_ARGUMENTS, *settings.COMMAND_LINE, *settings.all_settings()}
    assert {field.name for field in dataclasses.fields(Setup)} - {"why"} == {
        field.name for field in dataclasses.fields(settings.HardwareSettings)
    }
    assert {field.name for field in dataclasses.fields(settings.Settings)} == {*settings.SECTIONS}


def test_a_recipe_that_uses_a_reserved_name_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('"""Mine. Me 2026, A paper, arXiv:2601.00001"""\n\ndef mine(data, *, seed: int = 0):\n    """Mine."""\n')
    with pytest.raises(LeafwingError, match="'seed': this name is reserved"):
        recipes.describe(str(path))


def test_resume_from_the_cache_when_the_source_is_missing(folder: Path, cache: Path, tmp_path: Path) -> None:
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=32, log_every=8, save_every=8, **TINY)
    part = leafwing.train(folder, "dcgan", out=tmp_path / "part", images=16, log_every=8, save_every=8, **TINY)
    shutil.rmtree(folder)
    assert last_weights(leafwing.resume(part.folder, images=32)) == last_weights(whole)


def test_resume_from_the_source_when_the_cache_is_missing(folder: Path, cache: Path, tmp_path: Path) -> None:
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=32, **TINY)
    part = leafwing.train(folder, "dcgan", out=tmp_path / "part", images=16, **TINY)
    shutil.rmtree(cache)
    assert last_weights(leafwing.resume(part.folder, images=32)) == last_weights(whole)


def test_resume_reports_missing_or_changed_data(folder: Path, cache: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, **TINY)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    shutil.rmtree(cache)
    Image.new("RGB", (16, 16)).save(folder / "one more.png")
    with pytest.raises(LeafwingError, match="has changed since"):
        leafwing.resume(run.folder, images=32)
    shutil.rmtree(cache)
    shutil.rmtree(folder)
    with pytest.raises(LeafwingError, match="not in the cache, and its source cannot be read"):
        leafwing.resume(run.folder, images=32)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_after_a_full_disk_training_resumes_from_the_last_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = leafwing.train(folder, "dcgan", out=tmp_path / "whole", images=48, log_every=8, save_every=8, **TINY)
    replace, left = os.replace, [12]

    def filling(a: Any, b: Any) -> None:
        if "weights" in str(b) or "resume" in str(b):
            left[0] -= 1
            if left[0] < 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(a, b)

    monkeypatch.setattr(files.os, "replace", filling)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        leafwing.train(folder, "dcgan", out=tmp_path / "run", images=48, log_every=8, save_every=8, **TINY)
    assert caught.value.exit_code == 4
    assert "leafwing resume" in str(caught.value)
    monkeypatch.setattr(files.os, "replace", replace)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")]
    assert last_weights(leafwing.resume(tmp_path / "run")) == last_weights(whole)


def test_an_output_folder_that_cannot_be_created_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        leafwing.train(folder, "dcgan", out=tmp_path / "file" / "run", images=8, **TINY)


BREAKS_AT_24 = '''"""Mine. Me 2026, A paper, arXiv:2601.00001"""

from torch import nn

from leafwing.game import SGD, Abilities, Game, Output, Player, Round, Term, Turn
from leafwing.parts.priors import Normal


def mine(data, *, batch: int = 8):
    """A loss that becomes NaN at 24 images."""

    def play(nets, batch, clock):
        fake = nets.G(Normal(4)(batch.n)).unflatten(1, data.shape)
        return Round(nets, real=batch.image, fake=fake, judge=lambda x: nets.D(x.flatten(1)), clock=clock)

    def cost(r):
        return r.fake_score.mean() * (float("nan") if r.clock.images >= 24 else 1.0)

    players = {"G": Player(nn.Linear(4, data.size)), "D": Player(nn.Linear(data.size, 1), SGD(0.01))}
    make = lambda nets, inputs, clock: nets.G(inputs.latent).unflatten(1, data.shape)
    return Game(players, [Turn("D", play, [Term("odd", cost)])], Abilities([Output("image", make, prior=Normal(4))]), batch=batch)
'''


def test_a_nan_loss_stops_training_and_keeps_the_last_good_checkpoint(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BREAKS_AT_24)
    given: dict[str, Any] = {"size": 16, "threads": 1, "precision": "fp32", "log_every": 8, "save_every": 8, "keep_every": 0}
    with pytest.raises(
        Diverged, match=r"loss 'odd' of player D became nan at 24 images.*last good checkpoint has 24 images"
    ):
        leafwing.train(folder, str(path), out=tmp_path / "run", images=64, **given)
    run = Run(tmp_path / "run", trust=True)
    assert list(run.weights()) == [16, 24]
    assert leafwing.Model.load(run).sample(2).isfinite().all()
    with pytest.raises(Diverged, match="at 24 images"):
        leafwing.resume(run.folder, trust=True)


def test_intervals_adapt_to_the_time_limit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit ends this training long before a twentieth of its images; intervals set by the user stay as they are."""
    given = TINY | {"images": "10M", "time": 100, "log_every": 8, "grid_every": 10_000_000}
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", progress=SlowTurns(monkeypatch), **given)
    shown = run.records()[-1]["images"]
    assert run.settings.folder.save_every < shown < run.settings.folder.grid_every == 10_000_000
    assert len(list(run.samples.glob("*.png"))) == 2
    assert run.records()[-1]["images"] in run.weights()


def test_a_training_cut_short_by_the_time_limit_says_so_and_how_to_go_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--{name}={value}" for name, value in TINY.items()]
    assert cli.run(["train", str(folder), "--images=10M", "--time=0.3s", f"--out={tmp_path / 'run'}", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = Run(tmp_path / "run").records()[-1]["images"]
    assert lines[0].startswith(f"trained on {shown:,} images")
    assert lines[0].endswith("s, and 0% of the 10M images that were planned at most")
    assert lines[-2] == "next, to go on:"
    assert lines[-1].endswith(f"resume {shlex.quote(str(tmp_path / 'run'))}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", ["missing", "old"])
def test_a_resume_that_would_overwrite_newer_weights_is_refused(folder: Path, tmp_path: Path, what: str) -> None:
    """Resuming without resume.pt used to start again at 0 images, and overwrote log and weights."""
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=8, save_every=8, keep_last=9, **TINY)
    old = (run.folder / "resume.pt").read_bytes()
    leafwing.resume(run.folder, images=32)
    if what == "missing":
        (run.folder / "resume.pt").unlink()
    else:
        (run.folder / "resume.pt").write_bytes(old)
    before = contents(run.folder)
    with pytest.raises(LeafwingError, match=r"weights at 32 images.*resume\.pt.*train --from"):
        leafwing.resume(run.folder, images="+16")
    assert contents(run.folder) == before
    assert leafwing.Model.load(run).sample(2).isfinite().all()


def test_resuming_to_fewer_images_or_without_the_newest_weights_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=32, save_every=16, **TINY)
    with pytest.raises(LeafwingError, match=r"already been trained on 32 images, so --images 16 is too low"):
        leafwing.resume(run.folder, images=16)
    with pytest.raises(LeafwingError, match=r"all of its 32 images; continue with .* --images \+100k"):
        leafwing.resume(run.folder)
    run.weights()[32].unlink()
    with pytest.raises(LeafwingError, match=r"newest checkpoint \(32 images\) is missing.*--checkpoint 16"):
        leafwing.resume(run.folder, images="+16")


def test_a_number_that_is_too_large_is_rejected_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "runs" / "0001-a", images=16, **TINY)
    before = contents(run.folder)
    with pytest.raises(LeafwingError, match=r"images=.?999999999999999999999"):
        leafwing.resume(run.folder, images="999999999999999999999")
    assert contents(run.folder) == before
    (tmp_path / "runs" / "0002-b").mkdir()
    for damaged in ('{"schedule": {"images": 1e400}}', "[]", "{}", '{"recipe": 3'):
        (tmp_path / "runs" / "0002-b" / "run.json").write_text(damaged)
        rows = commands.list_runs(tmp_path / "runs")
        assert [row["run"] for row in rows] == ["0001-a", "0002-b"]
        assert "run.json" in rows[1]["error"], "a damaged run does not affect the others"


def test_a_time_limit_ends_training_and_resume_lifts_or_moves_it(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images="10M", time=0.3, **TINY)
    assert run.stop_reason == "time_limit"
    spent = run.records()[-1]["seconds"]
    assert spent >= 0.3
    assert run.resume_state() is not None
    again = leafwing.resume(run.folder, time="+0.2s")
    assert again.stop_reason == "time_limit"
    assert again.records()[-1]["seconds"] >= spent + 0.2


def test_mirrored_images_change_the_training(folder: Path, tmp_path: Path) -> None:
    plain = leafwing.train(folder, "dcgan", out=tmp_path / "plain", images=16, **TINY)
    mirrored = leafwing.train(folder, "dcgan", out=tmp_path / "mirrored", images=16, mirror=True, **TINY)
    assert last_weights(plain) != last_weights(mirrored)
    assert mirrored.config["data"]["options"]["mirror"] is True


def test_held_out_images_are_never_shown_and_resuming_holds_out_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = leafwing.train(
        folder, "dcgan", out=tmp_path / "whole", images=64, log_every=8, save_every=8, hold_out=10, **TINY
    )
    part = leafwing.train(folder, "dcgan", out=tmp_path / "part", images=24, log_every=8, save_every=8, hold_out=10, **TINY)
    shown: list[bytes] = []
    batches = Dataset.batches

    def watched(data: Dataset, *given: Any, **how: Any) -> Any:
        read = batches(data, *given, **how)

        def watch(images: int, n: int) -> Any:
            batch = read(images, n)
            shown.extend(image.tobytes() for image in pictures.to_pixels(batch.image))
            return batch

        return watch

    monkeypatch.setattr(Dataset, "batches", watched)
    assert last_weights(leafwing.resume(part.folder, images=64)) == last_weights(whole)
    training, held_out = load(folder, size=16).split(10)
    assert set(shown) == {image.tobytes() for image in training.pictures(range(14))}
    assert not set(shown) & {image.tobytes() for image in held_out.pictures(range(10))}
    assert whole.config["data"]["held_out"] == 10


FEW = '''"""Few. Nobody 2020, A test, arXiv:2001.00001

A critic that is shown labelled samples too.
"""

from leafwing import networks
from leafwing.fields import Label
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating


def few(data: DataSpec, *, latent: int = 8, width: int = 8, max_width: int = 16, batch: int = 8) -> Game:
    """A test."""
    data.need("few", labelled_label=Label)
    z = priors.by_name("normal", latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        assert batch.labelled_label.shape == (batch.n,)
        return Round(nets, real=batch.labelled_image, fake=nets.G(z(batch.n, batch.image.device)), judge=nets.D, clock=clock)

    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(1e-4)),
            "D": Player(networks.critic(data, width, max_width=max_width), Adam(1e-4)),
        },
        turns=duel(play, non_saturating),
        abilities=generating(z),
        batch=batch,
    )
'''


def test_fields_that_a_recipe_does_not_ask_for_are_named() -> None:
    messages: list[str] = []

    class Listener(Reporter):
        def say(self, text: str) -> None:
            messages.append(text)

    commands.forecast("sprites", "dcgan", progress=Listener(), fields="label,caption,box", **TINY)
    assert [text for text in messages if "does not ask for: caption, box" in text]


def test_labelled_images_are_a_second_stream_also_after_resuming(folder: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(folder.glob("*.png"))):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        path.rename(folder / "ab"[i % 2] / path.name)
    recipe = tmp_path / "few.py"
    recipe.write_text(FEW, encoding="utf-8")
    given: dict[str, Any] = {"log_every": 8, "save_every": 8, "hold_out": 4, "labelled": 4, **TINY}
    whole = leafwing.train(folder, str(recipe), out=tmp_path / "whole", images=64, **given)
    part = leafwing.train(folder, str(recipe), out=tmp_path / "part", images=24, **given)
    assert last_weights(leafwing.resume(part.folder, images=64, trust=True)) == last_weights(whole)
    about = whole.config["data"]
    assert (about["labelled"], about["labelled_seed"]) == (4, 0)
    assert [*about["spec"]["fields"]] == ["image", "label", "labelled_image", "labelled_label"]
    assert commands.sample(whole.folder, 4, trust=True).is_file()
    again = leafwing.train(recipe=str(recipe), replay=whole.folder, out=tmp_path / "again")
    assert last_weights(again) == last_weights(whole)
    other = leafwing.train(folder, str(recipe), out=tmp_path / "other", images=64, labelled_seed=1, **given)
    assert last_weights(other) != last_weights(whole)
    assert commands.forecast(folder, str(recipe), images=64, **given)["memory"] > 0
    plain = leafwing.train(folder, "dcgan", out=tmp_path / "plain", images=16, **TINY)
    beside = leafwing.train(folder, "dcgan", out=tmp_path / "beside", images=16, labelled=4, **TINY)
    assert last_weights(plain) == last_weights(beside), "a recipe that ignores the second stream is not affected by it"


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({}, "choose a number of labelled samples, as in --labelled 100"),
        ({"labelled": 0}, "labelled=0"),
        ({"labelled": 4}, "has no labels"),
        ({"labelled_seed": 4}, "needs --labelled"),
        ({"labelled": 4, "labelled_seed": 2**32}, "labelled_seed=4294967296: must be from 0"),
    ],
)
def test_an_impossible_labelled_stream_writes_nothing(
    folder: Path, tmp_path: Path, stream: dict[str, int], message: str
) -> None:
    recipe = tmp_path / "few.py"
    recipe.write_text(FEW, encoding="utf-8")
    with pytest.raises(LeafwingError, match=message):
        leafwing.train(folder, str(recipe), out=tmp_path / "run", images=16, **stream, **TINY)
    assert not (tmp_path / "run").exists()


def test_holding_out_too_many_images_writes_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"hold_out=24: .* only 24"):
        leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, hold_out=24, **TINY)
    assert not (tmp_path / "run").exists()


def test_tensorboard_files_are_written_on_request(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, tensorboard=True, **TINY)
    assert list(run.folder.glob("events.out.tfevents.*"))


def test_tensorboard_shows_the_probability_of_augmentations(folder: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = leafwing.train(folder, "dcgan", out=tmp_path / "run", images=16, tensorboard=True, augment="p=0:.5", **TINY)
    assert commands.list_runs(tmp_path)[0]["augment"] == "p=0:.5"
    events = accumulator.EventAccumulator(str(run.folder))
    events.Reload()
    assert "augment_p" in events.Tags()["scalars"]
    assert events.Scalars("augment_p")[-1].value == pytest.approx(run.records()[-1]["augment_p"])


def test_last_and_milestone_checkpoints_are_kept(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(
        folder, out=tmp_path / "run", images=96, log_every=8, save_every=8, keep_last=2, keep_every=4, **TINY
    )
    assert list(run.weights()) == [8, 32, 64, 88, 96]


def test_the_table_of_runs_includes_a_damaged_one(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    leafwing.train(folder, root=root, images=8, **TINY)
    (root / "0002-broken").mkdir()
    (root / "0002-broken" / "run.json").write_text("{")
    table = commands.list_runs(root)
    assert [row["run"] for row in table] == ["0001-dcgan-pictures", "0002-broken"]
    assert "not valid JSON" in table[1]["error"]
    assert json.dumps(table)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `cgan` with the classes cat and dog."""
    root = tmp_path_factory.mktemp("trained")
    noise = np.random.default_rng(0)
    for i in range(8):
        path = root / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return leafwing.train(root / "pictures", "cgan", out=root / "run", images=16, **TINY)


def test_many_samples_are_never_all_in_memory_as_floats(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three formats contain exactly the pixels of `Model.sample`, and convert 64 samples at a time."""
    expected = pictures.to_pixels(leafwing.Model.load(trained).sample(150, seed=2))
    to_stored, sizes = fields.Image.to_stored, []

    def convert(field: fields.Image, block: torch.Tensor) -> torch.Tensor:
        if block.any():  # an array is allocated in the format of one blank sample
            sizes.append(len(block))
        return to_stored(field, block)

    monkeypatch.setattr(fields.Image, "to_stored", convert)
    result = {
        format: commands.sample(trained.folder, 150, seed=2, format=format, out=tmp_path / format) for format in FORMATS
    }
    assert sizes == [64, 64, 22] * 3
    with np.load(result["npz"]) as arrays:
        assert arrays["samples"].dtype == np.uint8
        assert np.array_equal(arrays["samples"], expected)
        assert arrays["labels"].tolist() == [0, 1] * 75
    written = sorted(result["folder"].iterdir())
    assert [path.name for path in written] == [f"{i:06d}-{('cat', 'dog')[i % 2]}.png" for i in range(150)]
    assert all(np.array_equal(np.asarray(Image.open(path)), pixels) for path, pixels in zip(written, expected, strict=True))
    model = leafwing.Model.load(trained)
    sheet = pictures.sample_grid(model.kind(model.output), expected, 13, model.spec, model.conditions(150))
    assert result["grid"].read_bytes() == pictures.png(sheet.image())


def test_precision_of_sampling_is_independent_of_training(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def samples(name: str, **how: str) -> np.ndarray:
        with np.load(commands.sample(trained.folder, 3, format="npz", out=tmp_path / f"{name}.npz", **how)) as arrays:
            return arrays["samples"].astype(int)

    plain, fast = samples("plain"), samples("fast", precision="bf16")
    exact = leafwing.Model.load(trained).sample(3)
    assert np.array_equal(plain, pictures.to_pixels(exact))
    nearly = leafwing.Model.load(trained, precision="bf16")
    assert np.array_equal(fast, pictures.to_pixels(nearly.sample(3)))
    assert not torch.equal(nearly.sample(3), exact)
    assert np.abs(fast - plain).max() <= 2
    for native, same in ((True, fast), (False, plain)):
        monkeypatch.setattr("leafwing.engine.setup.fast_bf16", lambda device, native=native: native)
        assert np.array_equal(samples(f"auto-{native}", precision="auto"), same)
        assert np.array_equal(samples(f"default-{native}"), plain)
    with pytest.raises(LeafwingError, match="no precision 'fp8'; choose from auto, fp32, bf16"):
        samples("no", precision="fp8")


def test_a_sample_for_each_seed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = leafwing.train(folder, images=8, out=tmp_path / "run", **TINY)
    out = tmp_path / "out"
    assert cli.run(["sample", str(run.folder), "--seeds", "3-5,9", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.glob("*.png")) == [f"seed{seed:06d}.png" for seed in (3, 4, 5, 9)]
    for seed in (3, 9):
        one = commands.sample(run.folder, 1, seed=seed, format="npz", out=tmp_path / f"{seed}.npz")
        with np.load(one) as arrays:
            assert np.array_equal(np.asarray(Image.open(out / f"seed{seed:06d}.png")), arrays["samples"][0])
    (out / "seed000003.png").write_bytes(b"mine")
    assert commands.sample_seeds(run.folder, "2-3", out=out) == out
    assert (out / "seed000003.png").read_bytes() == b"mine"
    assert (out / "seed000002.png").exists()
    with pytest.raises(LeafwingError, match="is not a folder of"):
        commands.sample_seeds(run.folder, "1", out=folder)
    other = leafwing.train(folder, images=8, out=tmp_path / "other", seed=1, **TINY)
    with pytest.raises(LeafwingError, match="samples of another run"):
        commands.sample_seeds(other.folder, "1", out=out)
    for words in (["--seeds", "5-3"], ["--seeds", "x"], ["--seeds", "1-3", "--npz"], ["--seeds", "1", "--label", "all"]):
        assert cli.run(["sample", str(run.folder), *words]) == 2
    assert "write 1-50, or 3,5,8" in capsys.readouterr().err


def test_a_sweep_has_a_row_for_each_latent(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "infogan", images=8, out=tmp_path / "run", **TINY)
    model = leafwing.Model.load(run)
    result = commands.sample(run.folder, 3, seed=1, sweep="code0=-2:2", out=tmp_path / "a.png")
    latents = model.sweep(model.latents(3, 1), "code0", [-2 + 4 * i / 9 for i in range(10)])
    pixels = pictures.upscale(pictures.to_pixels(model.generate(latents)), columns=10)
    rows = [[pictures.to_image(image) for image in row] for row in np.split(pixels, 3)]
    titles = [f"{-2 + 4 * i / 9:.2g}" for i in range(10)]
    assert result.read_bytes() == pictures.png(layout.arrange(rows, titles=titles))
    path = commands.sample(run.folder, 2, sweep="category")
    assert path.name.endswith("-seed0-n2-category.png")
    with np.load(commands.sample(run.folder, 2, sweep="category", format="npz")) as arrays:
        assert len(arrays["samples"]) == 20
    for sweep, message in (
        ("code0=a:b", "write NAME=FROM:TO"),
        ("code0=1", "write NAME=FROM:TO"),
        ("slant=0:1", "no code 'slant'"),
    ):
        with pytest.raises(LeafwingError, match=message):
            commands.sample(run.folder, 1, sweep=sweep, out=tmp_path / "b.png")


def test_a_sweep_and_all_labels_exclude_each_other(trained: Run) -> None:
    with pytest.raises(LeafwingError, match="mutually exclusive"):
        commands.sample(trained.folder, 2, label="all", sweep="code0=0:1")
    with pytest.raises(LeafwingError, match="sweep='code0': the latents of this run have no named codes"):
        commands.sample(trained.folder, 2, sweep="code0=0:1")


def test_only_bf16_changes_the_memory_layout_of_weights(trained: Run) -> None:
    for precision, last in (("fp32", False), ("bf16", True)):
        game = leafwing.Model.load(trained, precision=precision).game
        weights = [weight for weight in game.nets.G.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
        assert weights
        assert all(weight.is_contiguous(memory_format=torch.channels_last) == last for weight in weights)


def test_a_run_resumes_with_another_micro_batch_or_thread_count_and_records_it(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "wgan_gp", images=32, out=tmp_path / "run", **TINY)
    assert run.settings.machine.micro_batch == 0
    resumed = leafwing.resume(run.folder, images="+32", micro_batch=4, threads=1)
    machine = Run(run.folder).settings.machine
    assert resumed.stop_reason == "images"
    assert machine.micro_batch == 4
    assert machine.precision == "fp32", "other settings stay as they were"
    again = leafwing.resume(run.folder, images="+32", device="cpu")
    assert Run(again.folder).settings.machine.micro_batch == 4
    with pytest.raises(LeafwingError, match="'tpu': choose from auto, cpu, cuda"):
        leafwing.resume(run.folder, images="+32", device="tpu")


def test_a_run_without_recorded_hardware_settings_resumes(folder: Path, tmp_path: Path) -> None:
    run = leafwing.train(folder, "dcgan", images=16, out=tmp_path / "run", **TINY)
    settings = json.loads((run.folder / "run.json").read_text())
    for name in [name for name in settings["machine"] if name not in ("device", "precision", "threads")]:
        del settings["machine"][name]
    (run.folder / "run.json").write_text(json.dumps(settings))
    assert leafwing.resume(run.folder, images="+16").stop_reason == "images"


def test_a_dry_run_shows_the_augmentation(folder: Path) -> None:
    assert commands.forecast(folder, "dcgan", **TINY)["augment"] == "none"
    chosen = commands.forecast(folder, "dcgan", augment="diff:color", hold_out=2, **TINY)
    assert ", 2 held out\n" in describe_plan(chosen)
    assert "augment     diff:color" in describe_plan(chosen).splitlines()
    by_recipe = {**chosen, "recipe": "fastgan", "augment": "diff", "critic": {"augment": None}}
    assert "augment     diff (the default of fastgan)" in describe_plan(by_recipe).splitlines()


def test_a_dry_run_refuses_a_batch_that_the_devices_cannot_share(folder: Path) -> None:
    with pytest.raises(LeafwingError, match="a batch of 8 cannot be shared by 3 processes: choose --batch 9"):
        commands.forecast(folder, "dcgan", devices=3, **{**TINY, "batch": 8})
    with pytest.raises(LeafwingError, match="must be at least 1"):
        commands.forecast(folder, "dcgan", devices=0, **TINY)
    plan = commands.forecast(folder, "dcgan", devices=2, **{**TINY, "batch": 8})
    assert "devices     2; time, speed and memory above are those of one" in describe_plan(plan)
    assert "devices" not in describe_plan(plan | {"devices": 1})


def test_a_dry_run_says_what_to_expect_of_a_short_training(folder: Path) -> None:
    plan = commands.forecast(folder, "dcgan", time=1, **{**TINY, "size": 32})
    assert plan["expect"].startswith("expect blurs or blobs")
    assert "without --recipe" in plan["expect"], "the time ends it"
    assert plan["expect"] in describe_plan(plan)
    assert commands.forecast(folder, "dcgan", images=100_000, **{**TINY, "size": 32})["expect"] == ""
    assert commands.forecast(folder, "dcgan", images=16, **TINY)["expect"] == "", "16 px: not what most photographs are"


def test_a_dry_run_measures_a_speed_where_a_turn_takes_seconds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only turns of D show images, and the limit of time may end in one of G."""
    now = iter(range(0, 10**9, 10))  # 10 seconds pass whenever somebody looks
    monkeypatch.setattr("leafwing.loop.time.perf_counter", lambda: float(next(now)))
    plan = commands.forecast(folder, "wgan_gp", images=64, n_critic=1, **TINY)
    assert plan["images_per_second"] > 0


def test_a_dry_run_explains_the_hardware_settings(folder: Path) -> None:
    plan = commands.forecast(folder, "dcgan", micro_batch=4, layout="contiguous", **TINY)
    assert plan["machine"]["micro_batch"] == 4
    assert plan["why"]["layout"] == "as requested"
    assert plan["why"].keys() >= {"device", "precision", "threads", "fused", "capture", "compile", "resident"}
    assert "CUDA graphs" not in describe_plan(plan)
    message = describe_plan(plan, verbose=True)
    assert "CUDA graphs not on cpu" in message
