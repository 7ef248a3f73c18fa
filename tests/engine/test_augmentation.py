from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import leafwing
from leafwing.augment_option import parse
from leafwing.commands.plan import build_augmentation
from leafwing.engine import Engine, choose
from leafwing.engine.augmentation import INTERVAL, TARGET, Augmentation
from leafwing.engine.capture import Rehearsal
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Image as ImageField
from leafwing.fields import Segmentation
from leafwing.game import Batch, Clock, DataSpec, Nets, Round
from leafwing.loop import Training
from tiny import THREADS, batches, build, first_data, load, same, tensors

SPEC = DataSpec.images(16, 16)


def augmentation(text: str, planned: int = 1000, channels: Sequence[int] = (3,)) -> Augmentation:
    option = parse(text)
    assert option is not None
    return Augmentation(option, channels, planned)


def train(
    recipe: str, text: str, images: int = 64, p: float | None = None, rehearse: bool = False, speed: int = 0, **changes: Any
) -> tuple[dict[str, Tensor], Engine]:
    """The weights after a short training, and the engine."""
    torch.manual_seed(0)
    spec = first_data(recipe)
    game = build(recipe, spec)
    setup = replace(choose("cpu", "fp32", THREADS), **changes)
    made = build_augmentation(text, spec, images)
    if made is not None and p is not None:
        made.p.fill_(p)
    if made is not None and speed:
        made.speed = speed
    engine = Engine(game, setup, augmentation=made, capture_backend=Rehearsal() if rehearse else None)
    training = Training(game, batches(spec, game), engine, images=images, batch=game.batch)
    list(training.ticks(10**9))
    return {name: value.clone() for name, value in tensors(game).items()}, engine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dif", "choose from none, diff"),
        ("diff:colour", "color, translation, cutout"),
        ("p=1.5", "must be a probability"),
        ("diff:p=0", "above 0 and at most 1"),
        ("diff:p=x", "above 0 and at most 1"),
        ("diff:p=.5,p=.6", "above 0 and at most 1"),
        ("p=.1:nan", "must be a probability"),
        ("p=", "must be a probability"),
        ("ada:3", "choose from"),
    ],
)
def test_other_values_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        parse(text)


def test_options() -> None:
    assert parse("none") is None
    assert parse("diff:cutout,color") == parse("diff: color, cutout")
    option = parse("p=0:.3")
    assert option is not None
    assert (option.kind, option.start, option.end) == ("p", 0.0, 0.3)


def test_judges_see_changed_images_and_codes_as_they_are() -> None:
    seen: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1).mean(1)

    x, codes = torch.rand(4, 3, 16, 16), torch.rand(4, 7)
    r = Round(Nets(), x, x, judge, other=Round(Nets(), codes, codes, judge))
    augmentation("diff").wrap(r)
    assert not torch.equal(r.real_score, r.fake_score), "each has changes of its own"
    r.other.real_score  # noqa: B018
    assert torch.equal(seen[-1], codes)
    assert not torch.equal(r.augment(x), x)
    assert torch.equal(Round(Nets(), x).augment(x), x), "without an augmentation"


def test_p_follows_a_schedule() -> None:
    made = augmentation("p=.1:.5")
    for images, expected in ((0, 0.1), (500, 0.3), (1000, 0.5), (2000, 0.5)):
        made.set_clock(Clock(images, 1000))
        assert float(made.p) == pytest.approx(expected)


@pytest.mark.parametrize(("above", "rises"), [(1.0, True), (0.95, True), (0.8, False), (0.0, False)])
def test_p_adapts_to_the_share_of_real_images_scored_above_fakes(above: float, rises: bool) -> None:
    """p moves only every few updates, by as much as it needs to pass from 0 to 1 in half of a short training."""
    made = augmentation("ada", planned=1000)
    made.p.fill_(0.5)
    n = 20
    real = torch.where(torch.arange(n) < above * n, 1.0, -1.0).requires_grad_()
    r = SimpleNamespace(real_score=real, fake_score=torch.zeros(n), fake=torch.zeros(n))
    for update in range(1, INTERVAL + 1):
        made.set_clock(Clock(10 * update - 10, 1000))
        made.observe(r)  # type: ignore[arg-type]
        assert made.observed
        made.adapt(10)
        moved = float(made.p) - 0.5
        assert (moved != 0) == (update == INTERVAL)
    assert moved == pytest.approx((1 if rises else -1) * 10 * INTERVAL / 500)
    assert (2 * above - 1 > TARGET) == rises


def test_p_stays_between_0_and_1() -> None:
    made = augmentation("ada", planned=2)
    for i, score in enumerate((1.0, -1.0, -1.0)):
        for update in range(INTERVAL):
            made.set_clock(Clock(100 * (i * INTERVAL + update), 10_000))
            real, fake = torch.full((4,), score).requires_grad_(), torch.zeros(4)
            made.observe(SimpleNamespace(real_score=real, fake_score=fake, fake=fake))  # type: ignore[arg-type]
            made.adapt(100)
        assert float(made.p) == (1.0 if score > 0 else 0.0)


def test_only_turns_of_the_critic_are_observed() -> None:
    made = augmentation("ada")
    made.observe(SimpleNamespace(real_score=torch.ones(4), fake_score=torch.zeros(4), fake=torch.zeros(4)))  # type: ignore[arg-type]
    assert not made.observed
    augmented = augmentation("diff")
    augmented.observe(
        SimpleNamespace(real_score=torch.ones(4).requires_grad_(), fake_score=torch.zeros(4), fake=torch.zeros(4))
    )  # type: ignore[arg-type]
    assert not augmented.observed


@pytest.mark.parametrize("text", ["diff", "diff:p=0.7", "ada", "p=.8"])
@pytest.mark.parametrize(
    "recipe", ["dcgan", "wgan_gp", "r3gan", "lsgan", "ebgan", "acgan", "improved_gan", "bigan", "cyclegan", "pix2pix"]
)
def test_training_with_any_critic(recipe: str, text: str) -> None:
    """Also with gradient penalties, through the changes."""
    plain, _ = train(recipe, "none")
    changed, engine = train(recipe, text)
    assert not same(plain, changed)
    assert all(value.isfinite().all() for value in changed.values())
    assert engine.augmentation is not None
    again, _ = train(recipe, text)
    assert same(changed, again)


@pytest.mark.parametrize("text", ["diff", "diff:p=0.7", "ada"])
def test_micro_batches_and_captured_turns_do_the_same(text: str) -> None:
    """With gradient penalties through the changes, and networks without batch statistics."""
    torch.set_default_dtype(torch.float64)
    try:
        whole, engine = train("r3gan", text, p=0.5)
        parts, other = train("r3gan", text, p=0.5, micro_batch=3)
        captured, third = train("r3gan", text, p=0.5, rehearse=True)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6), name
        assert torch.equal(value, captured[name]), name
    probabilities = [float(e.augmentation.p) for e in (engine, other, third) if e.augmentation is not None]
    assert probabilities[0] == probabilities[2] == pytest.approx(probabilities[1], abs=1e-9)
    assert text != "ada" or probabilities[0] != 0.5, "p has moved"


def test_diff_changes_a_share_of_the_images() -> None:
    assert parse("diff:p=1") == parse("diff") == parse("diff:color,translation,cutout")
    option = parse("diff:p=.7,cutout")
    assert option is not None
    assert (option.changes, option.probability) == (("cutout",), 0.7)
    x = torch.rand(2_000, 3, 8, 8)
    torch.manual_seed(0)
    images, beside = augmentation("diff:p=0.7")(x, x[:, :1])
    changed = (images != x).flatten(1).any(1)
    assert 0.65 < float(changed.float().mean()) < 0.75
    assert torch.equal(beside[~changed], x[~changed, :1])
    assert (beside != x[:, :1]).flatten(1).any(1)[changed].float().mean() > 0.95, "the same images"
    torch.manual_seed(0)
    whole, _ = augmentation("diff")(x, x[:, :1])
    assert torch.equal(images[changed], whole[changed]), "in the same way as without p"
    alike = augmentation("diff:p=0.5")(x[:1].repeat(40, 1, 1, 1), alike=4)
    groups = alike.view(10, 4, 3, 8, 8)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))


@pytest.mark.parametrize("option", ["diff:translation", "diff:cutout"])
def test_where_nothing_is_left_transparent_images_are_transparent(option: str) -> None:
    """Of pairs each has a transparency, and the fourth channel of colour and grey is none."""
    torch.manual_seed(0)
    for channels, further in ((2, 4), (4, 2), (3, 1), (1, 3)):
        made = augmentation(option, channels=(channels, further))
        images, beside = made(torch.full((50, channels, 16, 16), 0.5), torch.full((50, further, 16, 16), 0.5))
        empty = images[:, :1] == 0
        assert 0.01 < empty.float().mean() < 0.3
        for x in (images, beside):
            colours = x.shape[1] - (x.shape[1] in (2, 4))
            assert torch.equal(x[:, :colours], torch.where(empty, 0, 0.5).expand_as(x[:, :colours]))
            assert torch.equal(x[:, colours:], torch.where(empty, -1, 0.5).expand_as(x[:, colours:]))


def test_pairs_are_moved_together_and_keep_their_own_colours() -> None:
    x = torch.rand(40, 3, 16, 16)
    made = augmentation("diff:translation,cutout")
    images, beside = made(x, x[:, :1])
    assert torch.equal(images[:, :1], beside)
    assert not torch.equal(images, x)
    images, beside = augmentation("diff")(x, x[:, :1])
    mask = (beside != 0).expand_as(images)
    assert torch.equal((images != 0) & mask, images != 0), "the same hole and border"
    assert not torch.equal(images[:, :1], beside)
    made = augmentation("p=1")
    images, beside = made(x, x)
    assert beside.min() >= -1e-6, "colours of the other image are not changed"
    assert images.min() < -0.1


@pytest.mark.parametrize("turn", [1, 2])
def test_classes_of_pixels_are_moved_with_their_images(turn: int) -> None:
    classes = Segmentation(16, 16, ("left", "right"))
    spec = DataSpec(
        {"image": ImageField(16, 16), "segmentation": classes, "input": ImageField(16, 16), "input_segmentation": classes},
        unpaired=("input", "input_segmentation"),
    )
    game = build("sggan_gradient", spec)
    maps = torch.zeros(8, 2, 16, 16)
    maps[:, 0, :, :8], maps[:, 1, :, 8:] = 1, 1
    images = maps[:, :1].expand(-1, 3, -1, -1)  # 1 on the left, 0, where nothing is moved to either, on the right
    batch = Batch({"image": images, "segmentation": maps, "input": images, "input_segmentation": maps})
    r = game.turns[turn].play(game.nets, batch, Clock(total=100))
    shown: list[tuple[Tensor, Tensor]] = []
    r.judge = r.judge_fake = lambda image, beside: shown.append((image, beside)) or torch.zeros(len(image))  # type: ignore[func-returns-value]
    r.fake = images
    augmentation("diff:translation,cutout").wrap(r)
    assert r.real_score.shape == r.fake_score.shape == (8,)
    for image, beside in shown:
        assert torch.equal(image[:, :1], beside[:, :1])
        assert not torch.equal(beside, maps)
        assert beside.min() == 0, "the second class is no transparency"


def test_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"augment.*points"):
        leafwing.train("ring", "lsgan", augment="diff", images=64, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_of_any_field_are_changed() -> None:
    spec = DataSpec({"image": ImageField(16, 16, 3), "input": ImageField(16, 16, 1)})
    made = build_augmentation("diff", spec, 100)
    assert made is not None
    assert made.channels == {1, 3}


def begin(recipe: str, images: int) -> Training:
    torch.manual_seed(0)
    spec = first_data(recipe)
    game = build(recipe, spec, lr_d=1e-3)
    made = build_augmentation("ada", spec, images)
    assert made is not None
    made.p.fill_(0.5)
    engine = Engine(game, choose("cpu", "fp32", THREADS), augmentation=made)
    return Training(game, batches(spec, game), engine, images=images, batch=game.batch)


@pytest.mark.parametrize("recipe", ["r3gan", "cyclegan"])
def test_a_resumed_training_ends_with_the_same_bits(recipe: str) -> None:
    """Stopped in the middle, also between two adaptations of p, with one critic and with two."""
    whole = begin(recipe, 144)
    list(whole.ticks(10**9))
    first = begin(recipe, 144)
    next(iter(first.ticks(54)))
    assert first.engine.augmentation is not None
    assert 0 < float(first.engine.augmentation.updates) < INTERVAL
    saved = torch.load(io.BytesIO(saved_bytes(first.state())), weights_only=True)
    second = begin(recipe, 144)
    load(second.game, {name: value.clone() for name, value in tensors(first.game).items()})
    second.restore(saved)
    list(second.ticks(10**9))
    assert same(tensors(whole.game), tensors(second.game))
    assert whole.engine.augmentation is not None
    assert second.engine.augmentation is not None
    assert same(whole.engine.augmentation.state_dict(), second.engine.augmentation.state_dict())
    assert float(whole.engine.augmentation.p) != 0.5


def saved_bytes(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_a_replayed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "augment": "ada", "size": 16, "width": 4, "max_width": 8, "batch": 8, "images": 160, "log_every": 40, "save_every": 80,
        "threads": 1, "precision": "fp32", "lr_d": 1e-3,
    }  # fmt: skip
    whole = leafwing.train("digits", "dcgan", out=tmp_path / "whole", **options)
    again = leafwing.train("digits", "dcgan", out=tmp_path / "again", replay=whole.folder)
    assert whole.weights()[160].read_bytes() == again.weights()[160].read_bytes()
    assert again.settings.critic.augment == "ada"
    assert [record["augment_p"] for record in whole.records()] == [record["augment_p"] for record in again.records()]


@pytest.mark.parametrize("recipe", ["dcgan", "bigan", "cyclegan", "gogan", "adagan"])
def test_the_speed_of_p_does_not_depend_on_the_number_of_critics(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only critics are measured, several in a round or one after the other in stages; p follows the images that were shown."""
    monkeypatch.setattr("leafwing.engine.augmentation.TARGET", -2.0)  # always below the measure
    images, speed = 320, 1_000
    _, engine = train(recipe, "ada", images=images, speed=speed)
    assert engine.augmentation is not None
    late = INTERVAL * build(recipe, first_data(recipe)).batch
    assert abs(float(engine.augmentation.p) - images / speed) <= late / speed


def test_a_sheet_shows_what_critics_see(tmp_path: Path) -> None:
    path, _ = leafwing.show("sprites", out=tmp_path / "a.png", size=16, augment="diff", seed=3)
    with Image.open(path) as sheet:
        cells = np.asarray(sheet.convert("RGB"))
    gap, side = 4, (cells.shape[1] - 9 * 4) // 8
    (image, *changed) = (cells[gap : gap + side, x : x + side] for x in range(gap, cells.shape[1], side + gap))
    assert len(changed) == 7
    assert all(not np.array_equal(image, cell) for cell in changed)
    again, _ = leafwing.show("sprites", out=tmp_path / "b.png", size=16, augment="diff", seed=3)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(LeafwingError, match="points"):
        leafwing.show("ring", out=tmp_path / "c.png", augment="ada")
    assert not (tmp_path / "c.png").exists()


def test_a_state_of_an_earlier_version_goes_on() -> None:
    """It had another buffer, and did not say when p last changed."""
    made = augmentation("ada", planned=1_000)
    old = {"p": torch.tensor(0.5), "sign": torch.tensor(0.0), "updates": torch.tensor(0.0), "critics": torch.tensor(1.0)}
    made.restore(old)
    moves = []
    for update in range(2 * INTERVAL):
        made.set_clock(Clock(10_000 + 10 * update, 100_000))
        made.observe(
            SimpleNamespace(real_score=torch.ones(4).requires_grad_(), fake_score=torch.zeros(4), fake=torch.zeros(4))
        )  # type: ignore[arg-type]
        made.adapt(10)
        moves.append(float(made.p))
    assert moves[INTERVAL - 1] == 0.5, "how many images p would have to catch up with is unknown"
    assert moves[-1] == pytest.approx(0.5 + 10 * INTERVAL / made.speed)
