"""Which feature network judges: the default, what users name, and that no training is judged by what it looked through."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import leafwing
from leafwing import optional
from leafwing.commands import stopping
from leafwing.commands.comparison.record import Content, Record, settle_features
from leafwing.commands.evaluate import evaluate
from leafwing.config import BestCheckpoint
from leafwing.errors import LeafwingError
from leafwing.fields import Field, Image, Vector
from leafwing.game import DataSpec, Game
from leafwing.metrics.choice import FeatureChoice, choose_features
from leafwing.networks import lite0
from leafwing.parts.perceptual import PerceptualLoss
from leafwing.progress import Reporter
from leafwing.runs import Run
from small_comparison import plan_of
from tiny import build

PHOTOS = Image(64, 64)
needs_weights = pytest.mark.skipif(not lite0.is_installed(), reason=f"{lite0.PACKAGE} is not installed")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "is_installed", lambda: True)


class Listener(Reporter):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append(text)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PHOTOS, "lite0"),
        (Image(32, 48, 4), "lite0"),
        (Image(31, 48), "own"),
        (Image(64, 64, 1), "own"),
        (Image(64, 64, 2), "own"),
        (Vector(2), "own"),
    ],
)
def test_the_default_for_images_in_colour_is_lite0(kind: Field, name: str) -> None:
    choice = choose_features(kind, {"run": ()})
    assert choice.name == name
    assert str(choice).startswith(f"features {name}: the default for images")


def test_without_the_package_the_default_is_own_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    choice = choose_features(PHOTOS, {"run": ()})
    assert choice.name == "own"
    assert "pip install 'leafwing[features]'" in str(choice)


def test_what_needs_a_classifier_gets_one() -> None:
    choice = choose_features(PHOTOS, {"run": ()}, metrics=["fid", "inception_score"])
    assert (choice.name, "needs a classifier" in choice.reason) == ("own", True)


def test_what_users_name_is_used_without_words() -> None:
    choice = choose_features(PHOTOS, {"run": ()}, requested="pixels")
    assert (choice, str(choice)) == (FeatureChoice("pixels"), "")
    with pytest.raises(LeafwingError, match="no feature network 'lite'; did you mean lite0"):
        choose_features(PHOTOS, {"run": ()}, requested="lite")


def test_no_training_is_judged_by_what_it_looked_through() -> None:
    pretrained = {"plain": (), "keen": ["lite0"]}
    choice = choose_features(PHOTOS, pretrained)
    assert (choice.name, choice.reason) == ("own", "keen was trained with lite0")
    assert choose_features(PHOTOS, pretrained, requested="own").name == "own"
    with pytest.raises(LeafwingError, match=r"lite0 cannot judge keen, which was trained with lite0\. Use --features own"):
        choose_features(PHOTOS, pretrained, requested="lite0")
    with pytest.raises(
        LeafwingError, match=r"inception cannot judge keen, .* lite0 \(both networks were trained on ImageNet\)"
    ):
        choose_features(PHOTOS, pretrained, requested="inception")


def test_users_may_insist_and_the_choice_says_so() -> None:
    choice = choose_features(PHOTOS, {"keen": ["lite0"]}, requested="inception", circular=True)
    assert choice.trained_through == "lite0"
    assert "circular" in str(choice)
    assert choose_features(PHOTOS, {"plain": []}, requested="lite0", circular=True).trained_through == ""


# --- where it is used --------------------------------------------------------------------------------------------------------


def test_a_game_knows_the_networks_of_its_losses() -> None:
    spec = DataSpec.images(16, 16, input=Image(4, 4))
    assert list(build("srgan", spec, features="lite0", blocks=1).pretrained) == ["lite0"]
    assert list(build("srgan", spec, features="critic", blocks=1).pretrained) == []
    assert list(build("dcgan", DataSpec.images(16, 16)).pretrained) == []
    plain = build("dcgan", DataSpec.images(16, 16))
    assert list(Game(plain.players, plain.turns, plain.abilities, pretrained=["lite0"]).pretrained) == ["lite0"]
    assert PerceptualLoss("critic").pretrained == ()


TINY: dict[str, Any] = {"size": 32, "width": 4, "batch": 4, "threads": 1, "precision": "fp32", "hold_out": 40, "images": 8}


@needs_weights
def test_a_run_with_a_perceptual_loss_is_judged_by_own_unless_the_user_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leafwing.metrics import own

    monkeypatch.setattr(own, "STEPS", 2)
    run = leafwing.train(
        "sprites", "srgan", features="lite0", pretrain=0, blocks=1, input="low4", out=tmp_path / "run", **TINY
    )
    assert Run(run.folder).pretrained == ("lite0",)
    with pytest.raises(LeafwingError, match="lite0 cannot judge run"):
        evaluate(run.folder, metrics="kid", n=20, features="lite0")
    listener = Listener()
    (row,) = evaluate(run.folder, metrics="kid", n=20, progress=listener)
    assert row["protocol"]["features"] == "own"
    assert "trained_through" not in row["protocol"]
    assert "features own: run was trained with lite0" in listener.messages
    (marked,) = evaluate(run.folder, metrics="kid", n=20, features="lite0", circular=True)
    assert marked["protocol"]["trained_through"] == "lite0"
    (same,) = evaluate(run.folder, metrics="kid", n=20, features="lite0", circular=True)
    assert same == marked, "it is computed once"


@needs_weights
def test_early_stopping_records_its_features_and_continues_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "SAMPLES", 20)
    run = leafwing.train("sprites", "dcgan", stop_on="kid", save_every=8, out=tmp_path / "run", **TINY)
    assert Run(run.folder).history.stop_features == "lite0"
    assert run.metrics()[0]["protocol"]["features"] == "lite0"
    with monkeypatch.context() as patch:
        patch.setattr(lite0, "is_installed", lambda: False)
        patch.setitem(sys.modules, optional.LITE0, None)
        before = (run.folder / "run.json").read_bytes()
        with pytest.raises(LeafwingError, match=r"stops by kid of the features lite0\. .*pip install"):
            leafwing.resume(run.folder, images=16)
        assert (run.folder / "run.json").read_bytes() == before


def test_a_run_of_an_earlier_version_continues_with_own(tmp_path: Path) -> None:
    run = leafwing.train("ring", "gan", images=8, out=tmp_path / "run", width=8, batch=8, threads=1)
    game = run.build_game()
    run.spec = DataSpec.images(64, 64)
    run.update(best=BestCheckpoint(8, "kid", 1.0))
    assert stopping.choose_stop_features(run, game, "kid") == FeatureChoice("own")
    run.update(best=None)
    assert stopping.choose_stop_features(run, game, "kid").name == "lite0"  # type: ignore[union-attr]
    assert stopping.choose_stop_features(run, game, "swd") is None


def test_a_comparison_uses_one_network_that_no_recipe_looked_through(tmp_path: Path) -> None:
    options = {"input": "low4", "size": 32, "seeds": 1, "jobs": 1}
    plan = plan_of("sprites", tmp_path / "a", recipes="srgan", options=["features=lite0"], **options)
    assert (plan.choice and plan.choice.name, plan.pretrained) == ("own", {"srgan": ["lite0"]})
    with pytest.raises(LeafwingError, match="lite0 cannot judge srgan"):
        plan_of("sprites", tmp_path / "b", recipes="srgan", options=["features=lite0"], features="lite0", **options)
    plan = plan_of("sprites", tmp_path / "c", recipes="srgan", options=["features=critic"], **options)
    assert plan.choice
    assert plan.choice.name == "lite0"
    old = Content("", plan.conditions, {}, [], {}, 1)
    settle_features(plan, old)
    assert plan.evaluation["features"] == "own", "comparisons of the first versions, which recorded none, used own"
    keen = replace(plan.recipes["srgan"], pretrained=["lite0"])
    with pytest.raises(LeafwingError, match="lite0 cannot judge srgan"):
        settle_features(
            replace(plan, choice=FeatureChoice("own"), recipes={"srgan": keen}),
            Content("", plan.conditions, {}, [], {}, 1, features="lite0"),
        )


def test_a_comparison_keeps_the_network_that_the_user_named(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"recipes": "gan", "size": 16, "seeds": 1, "jobs": 1, "options": ["width=8"]}
    weights = tmp_path / "weights.pth"
    weights.touch()
    named = plan_of("digits", tmp_path / "plan", **arguments, features="inception", weights=weights)

    def features_of_next(**changes: Any) -> dict[str, Any]:
        """The evaluation that the next call plans and records."""
        plan = plan_of("digits", tmp_path / "plan", **arguments, **changes)
        Record(tmp_path).begin(plan)
        return plan.evaluation

    record = Record(tmp_path)
    record.begin(named)
    assert features_of_next() == {"features": "inception"}
    record.update_run("gan", 0, evaluation=named.evaluation)
    assert features_of_next() == {"features": "inception", "weights": str(weights)}
    content = json.loads((tmp_path / "compare.json").read_text())
    (tmp_path / "compare.json").write_text(json.dumps(content | {"features": ""}))  # as in earlier versions
    assert features_of_next() == {"features": "inception", "weights": str(weights)}
    assert features_of_next(features="pixels") == {"features": "pixels"}
    assert features_of_next() == {"features": "pixels"}, "the last one that was named"
