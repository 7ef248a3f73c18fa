"""The losses of the zoo's translators against independent computations, their turns and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Picture
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

import leafwing
from leafwing import recipes
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Image, Segmentation
from leafwing.game import Batch, Clock, DataSpec, Game, Round, Turn
from leafwing.model import Model
from leafwing.parts.steerable import edge_distance, responses
from tiny import batches
from tiny import build as build_trainable

pytestmark = pytest.mark.machine

CLASSES = Segmentation(16, 16, ("sky", "sea", "land"))
UNPAIRED = ("input", "input_segmentation")
BOTH = DataSpec(
    {"image": Image(16, 16), "segmentation": CLASSES, "input": Image(16, 16), "input_segmentation": CLASSES}, UNPAIRED
)
ONE = DataSpec({"image": Image(16, 16), "segmentation": CLASSES, "input": Image(16, 16, 1)}, ("input",))
PEOPLE = DataSpec.images(
    16, 16, attributes=("old", "hair=red", "hair=fair"), labelled_image=Image(16, 16),
    labelled_attributes=Attributes(("old", "hair=red", "hair=fair")),
)  # fmt: skip
LOW = DataSpec.images(16, 16, 3, input=Image(4, 4, 3))
MODALITIES = DataSpec.images(16, 16, 1, input=Image(16, 16, 1), other=Image(16, 16, 2))
CLOCK = Clock(0, 1000)


def build(name: str, spec: DataSpec, **options: Any) -> Game:
    """A tiny game whose weights do not require gradients."""
    game = build_trainable(name, spec, **options)
    for module in game.modules().values():
        module.requires_grad_(False)
    return game


def losses(game: Game, turn: Turn, batch: Batch, seed: int = 0, clock: Clock = CLOCK) -> tuple[Round, dict[str, float]]:
    """The round of a turn, and its losses by name."""
    torch.manual_seed(seed)
    r = turn.play(game.nets, batch, clock)
    torch.manual_seed(seed + 1)
    return r, {term.name: float(term.loss(r).detach()) for term in turn.losses}


def turn_of(game: Game, moves: str) -> Turn:
    return next(turn for turn in game.turns if turn.moves == moves)


def l1(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


# --- sggan_gradient ----------------------------------------------------------------------------------------------------------


def test_translators_keep_cycles_and_edges_and_deceive_semantic_critics() -> None:
    game = build("sggan_gradient", BOTH, cycle=7.0, edges=3.0, soft=0.2)
    nets, batch = game.nets, batches(BOTH, game)(0, 4)
    _, values = losses(game, turn_of(game, "G F"), batch)
    image, other = nets.G(batch.input), nets.F(batch.image)
    critics = (nets.D_image(image, batch.input_segmentation), nets.D_input(other, batch.segmentation))
    assert values["adversarial"] == pytest.approx(float(sum((score - 1).square().mean() for score in critics)), rel=1e-4)
    cycle = l1(nets.G(other), batch.image) + l1(nets.F(image), batch.input)
    assert values["cycle"] == pytest.approx(7 * cycle, rel=1e-4)
    difference = edge_distance(batch.image, other, batch.segmentation, 0.2)
    difference += edge_distance(batch.input, image, batch.input_segmentation, 0.2)
    assert values["edges"] == pytest.approx(3 * float(difference), rel=1e-4)


def test_semantic_critics_judge_reals_and_translations_by_their_own_classes() -> None:
    game = build("sggan_gradient", BOTH)
    nets, batch = game.nets, batches(BOTH, game)(0, 4)
    for moves, g, real, source in (("D_image", nets.G, "image", "input"), ("D_input", nets.F, "input", "image")):
        critic, maps = getattr(nets, moves), {"image": batch.segmentation, "input": batch.input_segmentation}
        _, values = losses(game, turn_of(game, moves), batch)
        for_real, for_fake = critic(batch[real], maps[real]), critic(g(batch[source]), maps[source])
        expected = ((for_real - 1).square().mean() + for_fake.square().mean()) / 2
        assert values["adversarial"] == pytest.approx(float(expected), rel=1e-4)


def test_the_health_of_both_directions_is_judged_by_the_classes_of_each_image() -> None:
    game = build("sggan_gradient", BOTH)
    nets, batch = game.nets, batches(BOTH, game)(0, 4)
    r, _ = losses(game, turn_of(game, "G F"), batch)
    assert torch.allclose(r.real_score, nets.D_image(batch.image, batch.segmentation), atol=1e-5)
    assert torch.allclose(r.back.real_score, nets.D_input(batch.input, batch.input_segmentation), atol=1e-5)


def test_earlier_translations_keep_their_classes() -> None:
    game = build("sggan_gradient", BOTH, pool=4)
    for images in range(0, 40, 4):
        batch = batches(BOTH, game)(images, 4)
        r, _ = losses(game, turn_of(game, "D_image"), batch, images)
    stored = game.nets.past_images.fakes
    assert stored.shape == (4, 6, 16, 16)
    assert torch.equal(stored[:, 3:].sum(1), torch.ones(4, 16, 16)), "one-hot maps"
    known = {
        hash(row.numpy().tobytes()) for start in range(0, 40, 4) for row in batches(BOTH, game)(start, 4).input_segmentation
    }
    assert all(hash(row.contiguous().numpy().tobytes()) in known for row in stored[:, 3:])
    assert r.fake.shape == (4, 3, 16, 16)


def test_without_segmentations_of_inputs_only_translations_of_images_keep_edges() -> None:
    game = build("sggan_gradient", ONE, edges=3.0)
    nets, batch = game.nets, batches(ONE, game)(0, 4)
    _, values = losses(game, turn_of(game, "G F"), batch)
    assert values["edges"] == pytest.approx(
        3 * float(edge_distance(batch.image, nets.F(batch.image), batch.segmentation)), rel=1e-4
    )
    assert nets.D_image(batch.image).shape == nets.D_image.body(batch.image)[:, 0].shape
    assert nets.D_image.body[-1].out_channels == 1


def test_fields_of_other_sizes_or_classes_are_refused() -> None:
    for name, kind in (("input", Image(32, 32)), ("input_segmentation", Segmentation(16, 16, ("sky", "sea")))):
        with pytest.raises(LeafwingError, match=r"one size.*same classes.*input"):
            build("sggan_gradient", DataSpec({**BOTH.fields, name: kind}, UNPAIRED))


# --- sggan_sparse ------------------------------------------------------------------------------------------------------------


def test_an_editor_is_read_as_intended_and_is_consistent() -> None:
    game = build("sggan_sparse", PEOPLE, class_weight=2.0, reconstruction=3.0)
    nets, batch = game.nets, batches(PEOPLE, game)(0, 6)
    r, values = losses(game, turn_of(game, "G"), batch)
    pairs, classes, consistency, score = nets.G(batch.image), 0.0, 0.0, 0.0
    for n, (which, value) in enumerate(zip(r.which.tolist(), r.value.tolist(), strict=True)):
        fake = pairs[n, which, value][None]
        real, logits = nets.D(fake)
        classes += float(binary_cross_entropy_with_logits(logits[0, which], torch.tensor(float(value)))) / 6
        again = nets.G(fake)[0, which]
        consistency += sum(l1(again[v], pairs[n, which, v]) for v in (0, 1)) / 6
        score += float(real) / 6
    assert values == pytest.approx(
        {"adversarial": -score, "attributes": 2 * classes, "consistency": 3 * consistency}, rel=1e-3, abs=1e-6
    )


def test_heads_learn_from_labelled_images_only() -> None:
    game = build("sggan_sparse", PEOPLE, class_weight=2.0, n_critic=3, penalty=0.0)
    nets, batch = game.nets, batches(PEOPLE, game)(0, 6)
    turn = turn_of(game, "D")
    assert turn.repeat == 3
    r, values = losses(game, turn, batch)
    expected = 2 * binary_cross_entropy_with_logits(nets.D(batch.labelled_image)[1], batch.labelled_attributes)
    assert values["attributes"] == pytest.approx(float(expected), rel=1e-4)
    assert values["adversarial"] == pytest.approx(float(nets.D(r.fake)[0].mean() - nets.D(batch.image)[0].mean()), abs=1e-6)
    assert values["gradient_penalty"] == 0
    plain = DataSpec.images(16, 16, attributes=PEOPLE.attributes)
    game = build("sggan_sparse", plain)
    batch = batches(plain, game)(0, 6)
    _, values = losses(game, turn_of(game, "D"), batch)
    expected = binary_cross_entropy_with_logits(game.nets.D(batch.image)[1], batch.attributes)
    assert values["attributes"] == pytest.approx(float(expected), rel=1e-4), (
        "without a labelled stream all images are labelled"
    )


def test_every_draw_of_attribute_and_value_occurs() -> None:
    game = build("sggan_sparse", PEOPLE)
    batch = batches(PEOPLE, game)(0, 64)
    r, _ = losses(game, turn_of(game, "D"), batch)
    assert {*zip(r.which.tolist(), r.value.tolist(), strict=True)} == {(i, v) for i in range(3) for v in (0, 1)}


def test_only_what_is_set_is_changed() -> None:
    model = Model(build("sggan_sparse", PEOPLE), PEOPLE)
    x, g = batches(PEOPLE)(0, 4).image, model.game.nets.G
    assert torch.equal(model.translate(x), x)
    assert torch.allclose(model.translate(x, attributes={"old": 0}), g(x)[:, 0, 0], atol=1e-6)
    assert torch.allclose(model.translate(x, attributes={"old": "yes"}), g(x)[:, 0, 1], atol=1e-6)
    assert torch.allclose(model.translate(x, attributes={"hair": "fair"}), g(x)[:, 2, 1], atol=1e-6)
    both = model.translate(x, attributes={"old": 1, "hair": "red"})
    assert torch.allclose(both, g(g(x)[:, 0, 1])[:, 1, 1], atol=1e-5)
    whole = model.translate(x, attributes=torch.tensor([1.0, 1.0, 0.0]))
    assert torch.equal(whole, both), "a category has one value"


# --- sgan_ct -----------------------------------------------------------------------------------------------------------------


def test_the_first_stage_denoises_and_the_second_enlarges_its_result() -> None:
    game = build("sgan_ct", LOW, noise=0.0, adversarial=0.5, l1=2.0, first=0.25)
    nets, batch = game.nets, batches(LOW, game)(0, 4)
    small = batch.image.unflatten(2, (4, 4)).unflatten(4, (4, 4)).mean((3, 5))
    middle = nets.G1(batch.input)
    for number, fake, real in ((1, middle, small), (2, nets.G2(middle), batch.image)):
        critic = getattr(nets, f"D{number}")
        _, values = losses(game, turn_of(game, f"G{number}"), batch)
        deceived = binary_cross_entropy_with_logits(critic(fake), torch.ones_like(critic(fake)))
        assert values == pytest.approx({"adversarial": 0.5 * float(deceived), "l1": 2 * l1(fake, real)}, rel=1e-4)
        _, values = losses(game, turn_of(game, f"D{number}"), batch)
        for_real = binary_cross_entropy_with_logits(critic(real), torch.ones_like(critic(real)))
        for_fake = binary_cross_entropy_with_logits(critic(fake), torch.zeros_like(critic(fake)))
        assert values["adversarial"] == pytest.approx(float(for_real + for_fake), rel=1e-4)
    moving = {
        moment: [turn.moves for turn in game.turns if turn.times(Clock(moment, 1000))] for moment in (0, 249, 250, 999)
    }
    assert moving == {0: ["D1", "G1"], 249: ["D1", "G1"], 250: ["D2", "G2"], 999: ["D2", "G2"]}


def test_noise_is_added_in_training_only() -> None:
    game = build("sgan_ct", LOW, noise=0.3)
    batch = batches(LOW, game)(0, 6)
    turn, model = turn_of(game, "G1"), Model(game, LOW)
    torch.manual_seed(5)
    noisy = (batch.input + 0.3 * torch.randn_like(batch.input)).clamp(-1, 1)
    r, _ = losses(game, turn, batch, 5)
    assert torch.allclose(r.fake, game.nets.G1(noisy))
    denoised = model.translate(batch.input, output="denoised")
    assert denoised.shape == (6, 3, 4, 4)
    assert torch.allclose(denoised, game.nets.G1(batch.input).clamp(-1, 1), atol=1e-6)
    assert torch.allclose(model.translate(batch.input), game.nets.G2(game.nets.G1(batch.input)).clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 8), (32, 32), (5, 5)])
def test_an_enlarger_by_other_factors_is_refused(height: int, width: int) -> None:
    with pytest.raises(LeafwingError, match="1, 2, 4 or 8 times"):
        build("sgan_ct", DataSpec.images(16, 16, 3, input=Image(height, width, 3)))


# --- sgan_mra ----------------------------------------------------------------------------------------------------------------


def test_responses_of_filters_are_compared_by_a_huber_function() -> None:
    options: dict[str, Any] = {"steerable": 5.0, "sigma": 0.8, "directions": 3, "l1": 2.0, "adversarial": 0.5}
    game = build("sgan_mra", MODALITIES, further="other", **options)
    nets, batch = game.nets, batches(MODALITIES, game)(0, 4)
    x = torch.cat([batch.input, batch.other], 1)
    fake = nets.G(x)
    _, values = losses(game, turn_of(game, "G"), batch)
    differences = (responses(fake, 0.8, 3) - responses(batch.image, 0.8, 3)).abs()
    huber = torch.where(differences < 0.1, differences.square() / 2, 0.1 * (differences - 0.05)).mean()
    score = nets.D(fake, x)
    deceived = binary_cross_entropy_with_logits(score, torch.ones_like(score))
    expected = {"adversarial": 0.5 * deceived, "l1": 2 * l1(fake, batch.image), "steerable": 5 * huber / 0.1}
    assert values == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-3)
    assert float(huber) == pytest.approx(
        float(huber_loss(responses(fake, 0.8, 3), responses(batch.image, 0.8, 3), delta=0.1))
    )


def test_contrasts_are_channels_or_further_fields() -> None:
    game = build("sgan_mra", MODALITIES, further=" other ")
    assert game.abilities.outputs[0].conditions == ("input", "other")
    model, batch = Model(game, MODALITIES), batches(MODALITIES, game)(0, 3)
    generated = model.translate(batch.input, other=batch.other)
    assert not torch.equal(generated, model.translate(batch.input, other=batch.other.flip(0)))
    assert build("sgan_mra", MODALITIES).abilities.outputs[0].conditions == ("input",)


@pytest.mark.parametrize(
    ("further", "message"),
    [("image", "different fields"), ("input", "different fields"), ("depth", "needs the field depth")],
)
def test_wrong_contrasts_are_refused(further: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        build("sgan_mra", MODALITIES, further=further)


# --- from the command --------------------------------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    "width": 4,
    "max_width": 8,
    "batch": 4,
    "size": 16,
    "threads": 1,
    "precision": "fp32",
    "health": "off",
}


def test_attributes_are_set_from_the_command_line(tmp_path: Path) -> None:
    from leafwing import cli

    run = leafwing.train("sprites", "sggan_sparse", images=8, out=tmp_path / "run", labelled=12, width_d=4, blocks=1, **TINY)
    picture = tmp_path / "grey.png"
    Picture.new("RGB", (16, 16), "grey").save(picture)
    command = ["translate", str(run.folder), str(picture), "--out", str(tmp_path / "out")]
    assert cli.run(command) == 2, "nothing is set"
    assert not (tmp_path / "out").exists()
    assert cli.run([*command, "--set", "colour=red"]) == 0
    assert [*(tmp_path / "out").iterdir()]


def test_outlines_and_sprites_have_segmentations(tmp_path: Path) -> None:
    options = {**TINY, "input": "unpaired", "fields": "segmentation", "blocks": 1}
    run = leafwing.train("sprites", "sggan_gradient", images=8, out=tmp_path / "run", **options)
    assert set(run.spec.fields) == {"image", "segmentation", "input", "input_segmentation"}
    assert leafwing.Model.load(run).game.nets.D_image.body[-1].out_channels == 7


def test_an_option_that_names_fields_uses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from leafwing import cli

    words = ["train", "sprites", "--recipe", "sgan_mra", "--input", "edges", "--fields", "segmentation,box", "--size", "16"]
    words += ["--images", "8", "--width", "4", "--max-width", "8", "--blocks", "1", "--out", str(tmp_path / "run")]
    assert cli.run([*words, "--further", "segmentation", "--dry-run"]) == 0
    text = "".join(capsys.readouterr())
    assert "does not ask for: box" in text


def test_all_recipes_are_installed() -> None:
    assert {"sggan_gradient", "sggan_sparse", "sgan_ct", "sgan_mra"} <= {*recipes.names()}
