"""Learning rates and batch sizes that change when a run is resumed: exactly from there on, in a later resume and in a replay."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import leafwing
import tiny
from leafwing import cli, commands, data, recipes
from leafwing.commands.plan import new_training
from leafwing.commands.retuning import build_phases, changed, changes_of, difference, timeline, values_at, without_effect
from leafwing.config import OptionChange
from leafwing.engine import Engine, choose, setup
from leafwing.engine.processes import Processes
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.loop import Training
from leafwing.progress import Reporter
from leafwing.runs import Run, load_trusted
from leafwing.settings import HardwareSettings, HealthSettings, Schedule, Settings

TINY: dict[str, Any] = {
    "recipe": "wgan", "width": 8, "latent": 2, "n_critic": 3, "batch": 4, "burst": 3, "precision": "fp32", "threads": 1,
    "log_every": 48, "save_every": 96, "grid_every": 1000,
}  # fmt: skip
NEW: dict[str, Any] = {"lr_g": 1e-3, "batch": 16}


class Listener(Reporter):
    """Collects messages; after some ticks it ends training as a crash would."""

    def __init__(self, ticks: int = -1) -> None:
        self.said: list[str] = []
        self.ticks = ticks

    def say(self, text: str) -> None:
        self.said.append(text)

    def tick(self, record: Any) -> None:
        self.ticks -= 1
        if self.ticks == 0:
            raise RuntimeError("crashed")


def last_weights(run: Run) -> bytes:
    return list(run.weights().values())[-1].read_bytes()


def lines(run: Run) -> list[dict[str, Any]]:
    """The log without what differs between machines and moments."""
    measured = ("seconds", "images_per_second", "memory")
    return [{name: value for name, value in record.items() if name not in measured} for record in run.records()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 192 images."""
    return leafwing.train("ring", out=tmp_path_factory.mktemp("runs") / "begun", images=192, **TINY).folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


# --- which options may change ------------------------------------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "gan": {"lr_g": 0.3, "lr_d": 0.3, "batch": 8, "momentum": 0.6, "width": 16, "ema": 100.0, "dropout": 0.1},
    "r3gan": {"lr_g": 1e-3, "lr_end": 0.5, "batch": 8, "gamma": 2.0, "n_critic": 2, "prior": "uniform"},
    "wgan": {"lr_d": 1e-3, "batch": 8, "clip": 0.2, "burst": 7, "latent": 9},
    "sngan": {"lr_g": 1e-3, "batch": 8, "beta1": 0.3, "width": 16},
    "cyclegan": {"lr_g": 1e-3, "lr_d": 1e-3, "decay": 0.7, "batch": 2, "pool": 7, "cycle": 5.0},
}
RATES = {"lr_g", "lr_d", "batch", "lr_end", "decay"}


@pytest.mark.parametrize("recipe", CHANGES)
def test_only_learning_rates_and_the_batch_size_may_change(recipe: str) -> None:
    spec = tiny.first_data(recipe)
    game = tiny.build(recipe, spec)
    assert not difference(game, tiny.build(recipe, spec))
    allowed = {
        name for name, value in CHANGES[recipe].items() if not difference(game, tiny.build(recipe, spec, **{name: value}))
    }
    assert allowed == RATES & CHANGES[recipe].keys()


def test_a_difference_is_named() -> None:
    spec = tiny.first_data("wgan")
    game = tiny.build("wgan", spec)
    assert difference(game, tiny.build("wgan", spec, latent=9)).startswith("players.G.net.")
    assert difference(game, tiny.build("wgan", spec, n_critic=9)).startswith("turns.0.repeat")
    assert difference(game, tiny.build("wgan", spec, ema=9)) == "players.G.ema_net"


@pytest.mark.parametrize(
    ("recipe", "options", "idle"),
    [
        ("lsgan", {"max_width": 64, "width": 8}, ["max_width"]),  # points have no convolutions
        ("gan", {"momentum": 0.6, "batch": 8, "lr_g": 0.3}, ["momentum"]),  # for points Adam is the default
        ("gan", {"momentum": 0.6, "optimiser": "sgd"}, []),
        ("gan", {"momentum": 0.7}, []),  # the default
        ("fgan", {"saturating": True, "divergence": "kl", "ema": 100.0}, []),
        ("r3gan", {"lr_end": 0.5, "n_critic": 2}, []),
    ],
)
def test_an_option_without_an_effect_is_found(recipe: str, options: dict[str, Any], idle: list[str]) -> None:
    card, function = recipes.describe(recipe), recipes.find(recipe)
    defaults, values = (card.resolve(chosen, points=True) for chosen in ({}, options))
    assert without_effect(partial(recipes.build, recipe, function, tiny.POINTS), values, defaults, options) == idle


def test_an_option_without_an_effect_is_reported(tmp_path: Path) -> None:
    listener = Listener()
    leafwing.train("ring", "lsgan", images=8, batch=4, width=4, max_width=64, out=tmp_path / "run", progress=listener)
    assert [text for text in listener.said if "effect" in text] == [
        "--max-width 64 has no effect with these data and options"
    ]


def test_settings_without_an_effect_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products where points decide the precision; changed images where nothing judges them."""
    monkeypatch.setattr(setup, "fast_bf16", lambda device: True)
    listener = Listener()
    tiny: dict[str, Any] = {"images": 4, "batch": 4, "width": 4, "device": "cpu", "threads": 1, "progress": listener}
    run = leafwing.train("ring", "lsgan", out=tmp_path / "ring", products=True, **tiny)
    assert (run.settings.machine.precision, run.settings.machine.products) == ("fp32", False)
    leafwing.train(
        "digits", "srgan", out=tmp_path / "digits", input="low2", size=16, blocks=1, pretrain=1, augment="diff",
        precision="fp32", **tiny,
    )  # fmt: skip
    assert [text for text in listener.said if "effect" in text] == [
        "--products has no effect: only in bf16",
        "--augment diff has no effect: only one network is trained, and none that judges its pictures",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"width": 16},
            r"width=16: only learning rates and the batch size .* changes players\.G\.net.* --width 16",
        ),
        ({"n_critic": 2, "lr_g": 1e-3}, r"changes turns\.0\.repeat"),
        ({"lr_g": -1}, "lr_g=-1: must be greater than 0"),
        ({"lr": 1}, r"no option lr; use:\n  lr_g "),
        ({"lrg": 1}, "no such option; did you mean --lr-g"),
        ({"imags": 1}, "no such option; did you mean --images"),
        ({"seed": 1}, "seed=1: resume continues with the settings of the run .* leafwing train --from"),
        ({"gamma": 1}, "recipe wgan has no such option"),
    ],
)
def test_everything_else_is_refused_and_nothing_is_written(run: Path, options: dict[str, Any], message: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(LeafwingError, match=message):
        leafwing.resume(run, images=288, **options)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


# --- training ----------------------------------------------------------------------------------------------------------------


def test_a_run_continues_exactly_after_a_change(run: Path, tmp_path: Path) -> None:
    """Whether it is stopped, crashes or goes on; and its replay changes at the same point, with the same log."""
    copy, crashed = (Path(shutil.copytree(run, tmp_path / name)) for name in ("copy", "crashed"))
    unchanged = leafwing.resume(Path(shutil.copytree(run, tmp_path / "unchanged")), images=672)
    listener = Listener()
    once = leafwing.resume(run, images=672, progress=listener, **NEW)
    change = "lr_g=0.001 (0.0005 before), batch=16 (4 before) from 192 images on"
    assert change in listener.said
    leafwing.resume(copy, images=384, **NEW)
    twice = leafwing.resume(copy, images=672)
    with pytest.raises(RuntimeError, match="crashed"):
        leafwing.resume(crashed, images=672, progress=Listener(5), **NEW)
    assert 192 < max(Run(crashed).weights()) < 672
    again = leafwing.resume(crashed, images=672)
    assert last_weights(once) == last_weights(twice) == last_weights(again) != last_weights(unchanged)
    assert [line["round"] for line in lines(once)] != [line["round"] for line in lines(unchanged)]
    assert [record["options"] for record in once.records() if "options" in record] == [NEW]
    assert lines(once) == lines(again)

    for folder in (run, copy, crashed):
        saved = json.loads((folder / "run.json").read_text())
        assert {name: saved["options"][name] for name in NEW} == NEW
        assert saved["history"]["option_changes"] == [{"images": 192, "before": {"lr_g": 5e-4, "batch": 4}, "after": NEW}]

    listener = Listener()
    replay = leafwing.train(replay=run, out=tmp_path / "replay", progress=listener)
    assert f"as in {run}: {change}" in listener.said
    assert last_weights(replay) == last_weights(once)
    assert lines(replay) == lines(once)
    assert any("health" in line for line in lines(replay))
    assert replay.history.option_changes == once.history.option_changes


def test_a_replay_that_crashes_before_the_change_makes_it_after_resume(run: Path, tmp_path: Path) -> None:
    once = leafwing.resume(run, images=384, **NEW)
    with pytest.raises(RuntimeError, match="crashed"):
        leafwing.train(replay=run, out=tmp_path / "replay", progress=Listener(3))
    assert max(Run(tmp_path / "replay").weights()) < 192
    assert last_weights(leafwing.resume(tmp_path / "replay")) == last_weights(once)


def test_options_given_to_a_replay_hold_all_the_time(run: Path, tmp_path: Path) -> None:
    leafwing.resume(run, images=384, **NEW)
    replay = leafwing.train(replay=run, out=tmp_path / "replay", batch=8)
    (change,) = replay.history.option_changes
    assert (change.before, change.after) == ({"lr_g": 5e-4}, {"lr_g": 1e-3})
    assert replay.options["batch"] == 8
    short = leafwing.train(replay=run, out=tmp_path / "short", images=96)
    assert (short.options["batch"], short.history.option_changes) == (4, ())


def test_a_dry_run_of_a_replay_is_about_the_first_batch_size(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leafwing.resume(run, images=384, **NEW)
    taken = []
    take = Training._take

    def spy(self: Training, *arguments: Any) -> Any:
        taken.append(self.batch)
        return take(self, *arguments)

    monkeypatch.setattr(Training, "_take", spy)
    plan = commands.forecast(replay=run)
    assert plan["batch"] == 4
    assert set(plan["memory_by_batch"]) == {"2", "4", "8"}
    assert {*taken} == {4}


def test_equal_values_change_nothing(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    listener = Listener()
    resumed = leafwing.resume(run, images=288, lr_g="5e-4", batch=4, width="8", progress=listener)
    assert resumed.history.option_changes == ()
    assert not any("before" in text for text in listener.said)
    assert last_weights(resumed) == last_weights(leafwing.resume(copy, images=288))


def test_the_command_line_takes_options_of_the_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["resume", str(run), "--lr-g", "1e-3", "--batch=8", "--images", "288"]) == 0
    assert "options  lr_g=0.001 (0.0005 before), batch=8 (4 before) from 192 images on" in capsys.readouterr().out
    assert cli.run(["resume", str(run), "--images", "384", "--width", "16"]) == 2
    assert "--width 16: only learning rates" in capsys.readouterr().err
    assert leafwing.Run(run).options["batch"] == 8


def test_runs_without_changes_are_read_as_before(run: Path) -> None:
    saved = json.loads((run / "run.json").read_text())
    del saved["history"]["option_changes"]
    (run / "run.json").write_text(json.dumps(saved))
    assert Run(run).history.option_changes == ()
    assert leafwing.resume(run, images=288, batch=8).options["batch"] == 8


def recipe_file(folder: Path) -> Path:
    """The recipe wgan as a file with another name."""
    path = folder / "mine.py"
    path.write_text((recipes.FOLDER / "wgan.py").read_text().replace("def wgan(", "def mine(").replace('"wgan"', '"mine"'))
    return path


def test_a_recipe_of_a_file_can_change_too(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path)
    run = leafwing.train("ring", out=tmp_path / "run", images=48, **{**TINY, "recipe": str(recipe)})
    with pytest.raises(LeafwingError, match="--trust"):
        leafwing.resume(run.folder, images=96, lr_d=1e-3)
    assert leafwing.resume(run.folder, images=96, lr_d=1e-3, trust=True).options["lr_d"] == 1e-3


@pytest.mark.parametrize("slots", [False, True])
def test_an_update_rule_of_a_file_can_change_too(slots: bool, tmp_path: Path) -> None:
    """The file is executed anew for each game, so its classes are never the same objects."""
    path = tmp_path / "mine.py"
    path.write_text(f"""
from dataclasses import dataclass
from torch import nn, optim
from leafwing.game import Abilities, Game, Player
@dataclass(frozen=True, slots={slots})
class Adagrad:
    lr: float
    eps: float = 1e-8
    on_host = True
    def build(self, weights, device, *, fused=True, capture=False):
        return optim.Adagrad(weights, self.lr, eps=self.eps)
    def scheduled(self, clock):
        return {{}}
def mine(data, **options):
    return Game({{"D": Player(nn.Linear(2, 1), Adagrad(**options))}}, [], Abilities())
""")

    def build(**options: float) -> Any:
        torch.manual_seed(0)
        return load_trusted(path, "mine")(tiny.POINTS, **options)

    assert difference(build(lr=0.1), build(lr=0.2)) == ""
    assert difference(build(lr=0.1), build(lr=0.1, eps=1.0)) == "players.D.optimiser.eps"


def test_a_new_run_with_a_recipe_of_a_file_is_advised_as_a_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(tmp_path)
    run = leafwing.train("ring", out=tmp_path / "my run", images=16, **{**TINY, "recipe": str(recipe)})
    recipe.unlink()
    assert cli.run(["resume", str(run.folder), "--images", "+16", "--latent", "3", "--trust"]) == 2
    anew = f"train --from '{run.folder}' --recipe '{run.folder}/recipe.py'"
    command = capsys.readouterr().err.strip().partition("leafwing train ")[2]
    assert f"train {command}" == f"{anew} --latent 3"
    assert cli.run(["train", *shlex.split(command), "--out", str(tmp_path / "new")]) == 0
    assert Run(tmp_path / "new").options == {**run.options, "latent": 3}
    with pytest.raises(LeafwingError, match=re.escape(f"start a new run: leafwing {anew}")):
        leafwing.resume(run.folder, images=32, seed=1, trust=True)
    capsys.readouterr()
    assert cli.run(["train", "--from", str(run.folder), "--latent", "3"]) == 2
    assert f"give its file with --recipe '{run.folder}/recipe.py'" in capsys.readouterr().err


def test_a_change_waits_for_the_end_of_the_round_and_shows_every_image_once() -> None:
    """Stopped after any unit of turns, also in the middle of a round, training ends with the same weights."""
    spec = tiny.first_data("wgan")
    options = {"n_critic": 3, "burst": 3}
    line = timeline({"batch": 4, "lr_d": 1e-2}, [OptionChange(20, {"batch": 6, "lr_d": 1e-3}, {"batch": 4, "lr_d": 1e-2})])
    positions: list[tuple[int, int]] = []

    def start() -> Training:
        phases = build_phases(lambda values: tiny.build("wgan", spec, **options, **values), line)
        game = tiny.build("wgan", spec, **options, batch=4, lr_d=1e-2)
        source = tiny.batches(spec, game)

        def read(images: int, n: int) -> Any:
            positions.append((images, n))
            return source(images, n)

        engine = Engine(game, choose("cpu", "fp32", tiny.THREADS))
        return Training(game, read, engine, images=60, batch=4, phases=phases)

    whole = start()
    assert whole.batch == 6
    list(whole.ticks(1000))
    assert positions == [(start, 6) for start in range(0, 36, 6)] + [(start, 4) for start in range(36, 60, 4)]
    assert whole.game.players["D"].optimiser is not None
    assert whole.game.players["D"].optimiser.lr == 1e-2

    for units in range(1, 20):
        part = start()
        counted = iter(range(1, 1000))
        list(part.ticks(1000, should_stop=lambda clock, counted=counted, units=units: next(counted) == units))  # type: ignore[misc]
        state, weights = part.state(), tiny.tensors(part.game)
        rest = start()
        list(rest.ticks(1000))  # a rollback returns to the old values too
        rest = rest if units % 2 else start()
        tiny.load(rest.game, weights)
        rest.restore(state)
        list(rest.ticks(1000))
        assert tiny.same(tiny.tensors(rest.game), tiny.tensors(whole.game)), units


def test_only_batches_that_can_still_come_must_be_shared() -> None:
    """Those of the past decide nothing, unless a rollback may return to them; then no other --batch helps."""
    ring = data.load("ring")

    def build(values: Any) -> Any:
        return tiny.build("wgan", ring.spec, **values)

    def start(line: Any, images: int, health: Any = "warn") -> None:
        settings = Settings(
            schedule=Schedule(1200), watching=HealthSettings(health), machine=HardwareSettings("cpu", "fp32", tiny.THREADS)
        )
        phases = build_phases(build, line)
        new_training(
            lambda: build(line[-1][1]), ring, settings, processes=Processes(0, 2), images=1200, phases=phases, start=images
        )

    line = [(0, {"batch": 15}), (600, {"batch": 16})]
    start(line, 600)
    with pytest.raises(LeafwingError, match="a batch of 15 cannot be shared by 2 processes"):
        start(line, 585)
    with pytest.raises(InvalidOption, match=r"rollback.*batches of 15, which 2 processes cannot share.*--health warn"):
        start(line, 600, "rollback")
    with pytest.raises(LeafwingError, match="a batch of 7 cannot be shared by 2 processes"):
        start([*line, (900, {"batch": 7})], 600)


def test_changes_over_training() -> None:
    options: dict[str, Any] = {"lr": 1.0, "batch": 1}
    assert changes_of(timeline(options, [])) == (options, ())
    line = changed(timeline(options, []), 10, {"lr": 2.0})
    line = changed(line, 20, {"batch": 2})
    end, changes = changes_of(line)
    assert end == {"lr": 2.0, "batch": 2}
    assert changes == (OptionChange(10, {"lr": 1.0}, {"lr": 2.0}), OptionChange(20, {"batch": 1}, {"batch": 2}))
    assert timeline(end, changes) == line
    assert values_at(line, 15) == {"lr": 2.0, "batch": 1}
    # Changed before a change that is still to come: later values of this option give way, others stay.
    assert changes_of(changed(line, 5, {"lr": 3.0}))[1] == (
        OptionChange(5, {"lr": 1.0}, {"lr": 3.0}),
        OptionChange(20, {"batch": 1}, {"batch": 2}),
    )
    assert changes_of(changed(line, 20, {"batch": 1})) == ({"lr": 2.0, "batch": 1}, changes[:1])
    assert changes_of(changed(timeline(options, []), 0, {"lr": 2.0})) == ({"lr": 2.0, "batch": 1}, ())


def test_building_the_games_of_a_timeline_leaves_the_random_state() -> None:
    line = [(0, {"batch": 4}), (9, {"batch": 6})]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert [
        phase.batch for phase in build_phases(lambda values: tiny.build("wgan", tiny.first_data("wgan"), **values), line)
    ] == [4, 6]
    assert torch.equal(torch.get_rng_state(), before)


def test_flags_of_train_are_refused_as_its_other_options_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_recipes = [f"--{option.name}" for card in recipes.catalogue() for option in card.options if option.type is bool]
    flags = {flag.replace("_", "-") for flag in {*cli.switches(["train"]), *of_recipes}} - cli.switches(["resume"])
    assert flags >= {"--mirror", "--no-mirror", "--dry-run", "--matching"}
    flags = {flag for flag in flags if not flag.startswith(("--empty", "--help", "--version", "-h"))}
    for flag, words in [
        *((flag, [str(run), flag]) for flag in sorted(flags)),
        ("--mirror", [str(run), "--mirror", "--json"]),
        ("--no-mirror", ["--no-mirror", str(run)]),
    ]:
        assert cli.run(["resume", *words]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"leafwing: {flag}: "), message
        assert "resume continues with the settings of the run" in message
    assert cli.run(["resume", str(run), "--mirror", "yes"]) == 2
    assert "--mirror yes: resume continues with the settings" in capsys.readouterr().err


def test_options_that_are_on_or_off_are_shown_as_typed() -> None:
    for value, typed in [(True, "--or-resume"), (False, "--no-or-resume"), ("yes", "--or-resume yes"), (1, "--or-resume 1")]:
        assert InvalidOption("or_resume", value, "no").for_command_line() == f"{typed}: no"
    assert InvalidOption("n", 0, "no").for_command_line() == "-n 0: no"


def test_options_of_train_are_not_confused_with_those_of_resume(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--size", "--seed", "--gamma"):
        assert cli.run(["resume", str(run), option, "3"]) == 2
        assert "resume continues with the settings of the run" in capsys.readouterr().err
    assert cli.run(["resume", str(run), "--imags", "3"]) == 2
    message = capsys.readouterr().err
    assert "--imags 3: no such option; did you mean --images?" in message
    assert "--lr-g" in message
    assert "--width" not in message
    for words in (["--lr-g.x", "1"], ["--lr-g", "1e-4", "--lr-g.x=2"]):
        assert cli.run(["resume", str(run), *words]) == 2
        assert "--lr-g.x: no such option" in capsys.readouterr().err
    assert cli.run(["resume", str(run), "--tensorbord"]) == 2
    assert "--tensorbord needs a value, or is not an option of resume" in capsys.readouterr().err
