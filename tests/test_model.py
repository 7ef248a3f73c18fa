"""A trained generator: the samples of a seed depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from leafwing import recipes
from leafwing.conditions import Examples
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Nets, Output, Player
from leafwing.model import Model
from leafwing.model_sheet import sample_sheet
from leafwing.parts.plays import generating
from leafwing.parts.priors import Normal
from leafwing.pictures import to_pixels

pytestmark = pytest.mark.machine

PICTURES = DataSpec.images(16, 16)
LABELLED = DataSpec.images(16, 16, labels=("ant", "bee", "2"))


def game(name: str, spec: DataSpec) -> Game:
    torch.manual_seed(0)
    card = recipes.describe(name)
    options = card.resolve(
        {
            key: value
            for key, value in {"latent": 6, "width": 4, "max_width": 8}.items()
            if key in {o.name for o in card.options}
        }
    )
    result = recipes.build(name, recipes.find(name), spec, options)
    with torch.no_grad():  # running statistics that differ from those of any batch, as after training
        for module in result.players["G"].net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.05, 0.05)
                module.running_var.uniform_(0.001, 0.01)
    return result


@pytest.fixture(scope="module")
def plain() -> Model:
    return Model(game("dcgan", PICTURES), PICTURES)


@pytest.fixture(scope="module")
def conditions() -> Model:
    return Model(game("cgan", LABELLED), LABELLED)


def test_samples_have_the_shape_and_range_of_the_data(plain: Model) -> None:
    samples = plain.sample(3)
    assert samples.shape == (3, 3, 16, 16)
    assert samples.dtype == torch.float32
    assert samples.abs().max() <= 1
    assert not samples.requires_grad


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(plain: Model) -> None:
    assert torch.equal(plain.sample(3, seed=5), plain.sample(3, seed=5))
    assert not torch.equal(plain.sample(3, seed=5), plain.sample(3, seed=6))


@pytest.mark.parametrize("n", [64, 65, 128])
def test_many_samples_do_not_depend_on_their_number(plain: Model, n: int) -> None:
    many = plain.sample(150, seed=3)
    assert torch.equal(plain.sample(n, seed=3), many[:n])


@pytest.mark.parametrize("n", [1, 2, 3, 33, 63])
def test_few_samples_do_not_depend_on_their_number_up_to_one_grey_level(plain: Model, n: int) -> None:
    many, few = plain.sample(150, seed=3)[:n], plain.sample(n, seed=3)
    assert torch.equal(plain.sample(n, seed=3), few), "equal calls give different bits"
    levels = [to_pixels(samples).astype(int) for samples in (few, many)]
    assert np.abs(levels[0] - levels[1]).max() <= 1
    assert torch.equal(torch.cat([*plain.stream(plain.latents(n, 3), pad=True)]), many)


def rounding() -> tuple[Model, list[int]]:
    """Kernels round depending on the shape; this model exaggerates it. And the sizes of its passes."""
    sizes: list[int] = []

    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        sizes.append(inputs.n)
        return inputs.latent * (1 + inputs.n / 100)

    return Model(Game({}, [], Abilities([Output("image", make, prior=Normal(2))])), DataSpec.vectors(2)), sizes


@pytest.mark.parametrize("n", [1, 5, 8, 9, 20])
def test_rounding_does_not_depend_on_the_number_of_samples(n: int) -> None:
    model, sizes = rounding()
    latents = model.latents(n)
    assert torch.equal(torch.cat([*model.stream(latents, batch=8, pad=True)]), model.sample(20, batch=8)[:n])
    assert {*sizes} == {8}


@pytest.mark.parametrize(("n", "expected"), [(1, [1]), (5, [8]), (8, [8]), (33, [64]), (64, [64]), (65, [64, 64])])
def test_few_samples_are_computed_in_small_passes(n: int, expected: list[int]) -> None:
    model, sizes = rounding()
    assert len(model.sample(n)) == n
    assert sizes == expected


@pytest.mark.parametrize("n", [3, 40, 64, 65, 200])
def test_parts_of_a_stream_are_the_same_bits_as_the_whole(n: int) -> None:
    model, _ = rounding()
    latents = model.latents(n)
    blocks = [*model.stream(latents)]
    ends = [*range(0, n, 64), n]
    parts = [torch.cat([*model.stream(latents, part=slice(a, b))]) for a, b in pairwise(ends)]
    assert torch.equal(torch.cat(parts), torch.cat(blocks))
    assert [*model.stream(latents, part=slice(n, n))] == []


def test_noise_inside_the_networks_depends_on_seed_and_position_only() -> None:
    output = Output("image", lambda nets, inputs, clock: torch.randn(inputs.n, 2), prior=Normal(2))
    model = Model(Game({}, [], Abilities([output])), DataSpec.vectors(2))
    torch.manual_seed(1)
    many = model.sample(150, seed=3)
    torch.manual_seed(2)
    assert torch.equal(model.sample(128, seed=3), many[:128])
    assert torch.equal(torch.cat([*model.stream(model.latents(150, 3), seed=3, part=slice(64, 150))]), many[64:])
    assert len(many.unique(dim=0)) == 150
    assert not torch.equal(model.sample(128, seed=4), many[:128])


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_samples_do_not_depend_on_the_batch_size(plain: Model, batch: int) -> None:
    assert torch.allclose(plain.sample(20, batch=batch), plain.sample(20), atol=1e-5)


def test_all_samples_of_a_seed_differ_from_one_another(plain: Model) -> None:
    latents = plain.latents(300, 0)
    assert len(latents.unique(dim=0)) == 300, "blocks of latents repeat"


def test_neighbouring_seeds_share_no_latent(plain: Model) -> None:
    latents = torch.cat([plain.latents(200, seed) for seed in (0, 1, 2)])
    assert len(latents.unique(dim=0)) == 600


def test_latents_of_a_part_are_those_of_the_whole(plain: Model) -> None:
    latents = plain.latents(150, 4)
    for first, n in ((0, 3), (60, 10), (64, 64), (149, 1)):
        assert torch.equal(plain.latents(n, 4, first=first), latents[first : first + n])


def test_default_labels_do_not_depend_on_the_number_of_samples(conditions: Model) -> None:
    assert torch.equal(conditions.sample(64, seed=3), conditions.sample(70, seed=3)[:64])
    assert torch.equal(conditions.conditions(2).label, conditions.conditions(70).label[:2])


def test_a_single_sample_is_the_same_with_batch_normalisation(plain: Model) -> None:
    latents = plain.latents(5)
    alone = torch.cat([plain.generate(z[None], batch=1) for z in latents])
    assert torch.allclose(alone, plain.generate(latents), atol=1e-5)


def test_running_statistics_are_used_and_not_changed(plain: Model) -> None:
    before = {key: value.clone() for key, value in plain.game.players["G"].net.state_dict().items()}
    plain.game.players["G"].net.train()
    samples = plain.sample(8)
    assert all(torch.equal(value, before[key]) for key, value in plain.game.players["G"].net.state_dict().items())
    plain.game.players["G"].net.eval()
    assert torch.equal(plain.sample(8), samples)


def test_sampling_does_not_change_training(plain: Model) -> None:
    net = plain.game.players["G"].net
    net.train()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    plain.sample(3, seed=1)
    assert torch.equal(torch.get_rng_state(), before), "the global random state changed"
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad for weight in net.parameters())
    net.eval()
    plain.sample(3)
    assert not any(module.training for module in net.modules())


def test_training_mode_is_restored_even_when_generating_fails(plain: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    net = plain.game.players["G"].net
    net.train()
    monkeypatch.setattr(net, "forward", lambda latents: latents @ latents.new_zeros(999, 1))
    with pytest.raises(RuntimeError):
        plain.sample(2)
    assert all(module.training for module in net.modules())
    net.eval()


def test_samples_come_from_the_moving_average() -> None:
    torch.manual_seed(0)
    result = game("dcgan", PICTURES)
    averaged = Game({**result.players, "G": Player(result.players["G"].net, ema=100)}, [], result.abilities)
    model = Model(averaged, PICTURES)
    before = model.sample(2)
    with torch.no_grad():
        for weight in averaged.players["G"].net.parameters():
            weight.zero_()
    assert torch.equal(model.sample(2), before)


def test_generate_takes_latents(plain: Model) -> None:
    assert torch.equal(plain.generate(plain.latents(4, 9)), plain.sample(4, 9))


def test_points_have_the_units_of_the_data_and_are_not_clipped() -> None:
    prior = Normal(2)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.eye(2) * 50)
        net.bias.zero_()
    model = Model(Game({"G": Player(net)}, [], generating(prior)), DataSpec.vectors(2))
    assert model.sample(10).shape == (10, 2)
    assert torch.allclose(model.sample(10), model.latents(10) * 50)


def test_images_are_clipped() -> None:
    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return inputs.latent[:, :1, None, None].expand(-1, 3, 16, 16) * 50

    model = Model(Game({}, [], Abilities([Output("image", make, prior=Normal(2))])), PICTURES)
    samples = model.sample(10)
    assert (samples.min().item(), samples.max().item()) == (-1, 1)


@pytest.mark.parametrize(("n", "batch"), [(1, 8), (8, 8), (20, 8), (20, 64)])
def test_a_stream_gives_the_same_samples_in_blocks(conditions: Model, n: int, batch: int) -> None:
    latents = conditions.latents(n, 4)
    blocks = list(conditions.stream(latents, label="bee", batch=batch))
    assert [len(block) for block in blocks] == [min(batch, n - start) for start in range(0, n, batch)]
    assert torch.equal(torch.cat(blocks), conditions.generate(latents, label="bee", batch=batch))


def test_blocks_are_generated_lazily_and_training_may_continue_in_between() -> None:
    passes = []

    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        passes.append(nets.G.training)
        return nets.G(inputs.latent)

    net = nn.Linear(2, 2)
    game = Game({"G": Player(net)}, [], Abilities([Output("image", make, prior=Normal(2))]))
    blocks = Model(game, DataSpec.vectors(2)).stream(torch.zeros(10, 2), batch=4)
    assert passes == []
    net.train()
    for result in range(1, 4):
        block = next(blocks)
        assert passes == [False] * result
        assert net.training
        assert torch.is_grad_enabled()
        assert not block.requires_grad
    assert next(blocks, None) is None


def test_errors_of_a_stream_are_raised_before_its_first_block(conditions: Model) -> None:
    options: list[dict[str, Any]] = [{"label": "bea"}, {"batch": 0}]
    for option in options:
        with pytest.raises(LeafwingError):
            conditions.stream(conditions.latents(2), **option)
    with pytest.raises(LeafwingError, match="cannot generate"):
        Model(Game({}, [], Abilities()), PICTURES).stream(torch.zeros(1, 1))


def test_bf16_samples_are_nearly_the_same_and_do_not_depend_on_their_number(plain: Model) -> None:
    fast = Model(plain.game, PICTURES, precision="bf16")
    many = fast.sample(150, seed=3)
    assert many.dtype == torch.float32
    assert many.abs().max() <= 1
    exact = plain.sample(150, seed=3)
    assert not torch.equal(many, exact)
    grey_levels = (many - exact).abs() * 127.5
    assert exact.std() * 127.5 > 5, "the contrast of the samples is too low for a comparison"
    assert grey_levels.max() < 1
    for n in (64, 65):
        assert torch.equal(fast.sample(n, seed=3), many[:n])
    assert (fast.sample(1, seed=3) - many[:1]).abs().max() * 127.5 < 1
    assert torch.equal(plain.sample(150, seed=3), exact)


def test_compiled_networks_generate_the_same_samples(plain: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def compiled(net: nn.Module) -> Callable[..., Tensor]:
        return lambda *given: passes.append(1) or net(*given)  # type: ignore[func-returns-value]

    monkeypatch.setattr(torch, "compile", compiled)
    result = Model(plain.game, PICTURES, compile=True).sample(70)
    assert torch.equal(result, plain.sample(70))
    assert len(passes) == 2  # blocks


def test_a_compilation_error_is_reported_once_and_samples_are_the_same(
    plain: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(net: nn.Module) -> Callable[..., Tensor]:
        def fail(*given: Tensor) -> Tensor:
            raise RuntimeError("no compiler\nand more")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    message: list[str] = []
    model = Model(plain.game, PICTURES, compile=True, notify=message.append)
    assert torch.equal(model.sample(70), plain.sample(70))
    assert message == ["the networks cannot be compiled, so sampling continues without compilation: no compiler"]


def test_an_unknown_precision_is_an_error_that_lists_the_known_ones(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="no precision 'auto'; choose from fp32, bf16"):
        Model(plain.game, PICTURES, precision="auto")


def differ(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, atol=1e-4)


def test_a_label_may_be_a_name_an_index_or_a_sequence(conditions: Model) -> None:
    by_name, by_index = conditions.sample(3, label="bee"), conditions.sample(3, label=1)
    assert torch.equal(by_name, by_index)
    assert torch.equal(conditions.sample(3, label="#1"), by_index)
    assert torch.equal(conditions.sample(3, label=["bee", 1, "bee"]), by_index)
    assert torch.equal(conditions.sample(3, label=torch.tensor([1, 1, 1])), by_index)
    assert torch.equal(conditions.sample(3, label=np.array([1, 1, 1])), by_index)
    assert differ(by_index, conditions.sample(3, label="ant"))


def test_a_name_that_looks_like_a_number_is_a_name(conditions: Model) -> None:
    digits = Model(conditions.game, DataSpec.images(16, 16, labels=("7", "0", "1")))
    assert digits.conditions(2, label="0").label.tolist() == [1, 1]
    assert digits.conditions(1, label="#2").label.tolist() == [2]
    with pytest.raises(LeafwingError, match="no class is named 2; '#2' is class 1"):
        digits.conditions(1, label="2")
    assert digits.conditions(1, label=0).label.tolist() == [0]


def test_without_a_label_classes_come_in_turn(conditions: Model) -> None:
    assert conditions.conditions(5).label.tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(conditions.sample(4), conditions.sample(4, label=[0, 1, 2, 0]))


def test_a_sequence_of_labels_keeps_its_order_over_several_passes(conditions: Model) -> None:
    labels = [i % 2 for i in range(10)]
    assert torch.allclose(conditions.sample(10, label=labels, batch=3), conditions.sample(10, label=labels), atol=1e-5)


def test_a_model_reports_its_abilities(plain: Model, conditions: Model) -> None:
    assert plain.can("generate")
    assert not plain.can("translate")
    assert conditions.can("label")
    assert not plain.can("label")
    assert not plain.can("encode")
    assert not Model(Game({}, [], Abilities()), PICTURES).can("generate")
    assert (plain.labels, conditions.labels) == ((), ("ant", "bee", "2"))


def test_an_unconditional_model_has_no_labels(plain: Model) -> None:
    unconditional = Model(plain.game, LABELLED)
    assert unconditional.labels == ()
    with pytest.raises(LeafwingError, match="does not generate its image from 'label'; it takes no conditions"):
        unconditional.sample(2, label="ant")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("bea", "no class 'bea'; did you mean bee.*[Aa]vailable: ant, bee, 2"),
        (3, "no class 3: there are 3 classes, 0 to 2"),
        (-1, "no class -1"),
        ("-1", "no class -1"),
        (["ant", "bee"], "2 values of label for 3 samples"),
        ([], "0 values of label for 3 samples"),
        (["ant", "bee", "cow"], "no class 'cow'"),
    ],
)
def test_an_unknown_label_is_an_error_that_lists_the_known_ones(conditions: Model, label: object, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        conditions.sample(3, label=label)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "seed", "message"), [(0, 0, "n=0"), (-2, 0, "n=-2"), (1, -1, "seed=.?-1"), (1, 2**32, "seed=4294967296")]
)
def test_invalid_numbers_are_rejected_by_name(plain: Model, n: int, seed: int, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        plain.sample(n, seed)


def test_numbers_of_numpy_are_numbers_and_fractions_are_refused(plain: Model) -> None:
    assert torch.equal(plain.sample(np.int64(2), np.uint32(3)), plain.sample(2, 3))  # type: ignore[arg-type]
    for call in (plain.sample, plain.latents, plain.grid, plain.conditions):
        for n, seed in ((2.5, 0), (2, 0.5)):
            with pytest.raises(LeafwingError, match=r"(n=2|seed=0)\.5: must be a whole number"):
                call(n, seed)  # type: ignore[arg-type]


def test_latents_and_samples_from_outside_are_arrays_or_tensors_of_the_right_shape(plain: Model) -> None:
    latents = plain.latents(2)
    assert torch.equal(plain.generate(latents.double().numpy()), plain.generate(latents))  # type: ignore[arg-type]
    for wrong in (latents[0], latents[:, 1:], latents[None], latents.long(), latents[:, 1:].numpy()):
        with pytest.raises(LeafwingError, match=rf"latents: give .* shape \(n, {latents.shape[1]}\), .* of shape \("):
            plain.generate(wrong)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=r"samples: give a tensor or an array .*, not Image; `leafwing translate` and"):
        plain.judge(Image.new("RGB", (16, 16)))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [0, -1])
def test_an_invalid_batch_size_is_rejected_by_name(plain: Model, batch: int) -> None:
    with pytest.raises(LeafwingError, match="batch"):
        plain.sample(2, batch=batch)


def test_the_largest_seed_works(plain: Model) -> None:
    assert plain.latents(1, 2**32 - 1).shape == (1, 6)


def test_a_missing_ability_is_an_error() -> None:
    model = Model(Game({}, [], Abilities()), PICTURES)
    with pytest.raises(LeafwingError, match="cannot generate"):
        model.sample(1)
    with pytest.raises(LeafwingError, match="cannot generate"):
        model.generate(torch.zeros(1, 1))


# --- codes ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coded() -> Model:
    torch.manual_seed(0)
    options = recipes.describe("infogan").resolve({"latent": 6, "categories": 3, "width": 4, "max_width": 8})
    return Model(recipes.build("infogan", recipes.find("infogan"), PICTURES, options), PICTURES)


def test_a_sweep_changes_only_its_code(coded: Model, plain: Model) -> None:
    assert coded.codes == {"noise": 6, "category": 3, "code0": 1, "code1": 1}
    assert plain.codes == {}
    latents = coded.latents(2)
    swept = coded.sweep(latents, "code0", [-2, 0, 2])
    assert swept.shape == (6, 11)
    assert swept[:, 9].tolist() == [-2, 0, 2, -2, 0, 2]
    other = [i for i in range(11) if i != 9]
    assert torch.equal(swept[:, other], latents.repeat_interleave(3, 0)[:, other])
    classes = coded.sweep(latents, "category")
    assert torch.equal(classes[:, 6:9], torch.eye(3).repeat(2, 1))
    assert len(coded.generate(swept).flatten(1).unique(dim=0)) == 6


@pytest.mark.parametrize(
    ("code", "values", "message"),
    [
        ("code9", [1.0], "no code 'code9'; did you mean code"),
        ("code0", None, "code code0 needs values, as in --sweep code0=-1:1"),
        ("category", [1.0], "code category takes no values: it is one of 3 classes"),
    ],
)
def test_an_invalid_sweep_is_an_error(coded: Model, code: str, values: list[float] | None, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        coded.sweep(coded.latents(1), code, values)


def test_a_model_without_codes_cannot_sweep(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="the latents of this run have no named codes"):
        plain.sweep(plain.latents(1), "code0", [1.0])


# --- encoders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bigan", "vaegan", "alpha_gan"])
def test_encoded_latents_do_not_depend_on_the_batch_size(name: str) -> None:
    model = Model(game(name, PICTURES), PICTURES)
    samples = model.sample(5)
    latents = model.encode(samples)
    assert model.can("encode")
    assert latents.shape == model.latents(5).shape
    assert torch.allclose(model.encode(samples, batch=2), latents, atol=1e-5)
    assert not latents.requires_grad
    assert model.generate(latents).shape == samples.shape
    with pytest.raises(
        LeafwingError, match=r"samples of shape \(\d+, 3, 8, 8\): those of this run have shape \(n, 3, 16, 16\)"
    ):
        model.encode(torch.zeros(1, 3, 8, 8))


def test_a_game_without_an_encoder_cannot_encode(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="no encoder"):
        plain.encode(plain.sample(1))


@pytest.mark.parametrize("name", ["acgan", "improved_gan_semi"])
def test_a_classifier_gives_probabilities(name: str) -> None:
    model = Model(game(name, LABELLED), LABELLED)
    samples = model.sample(5)
    chances = model.classify(samples)
    assert model.can("classify")
    assert chances.shape == (5, len(LABELLED.labels))
    assert torch.allclose(chances.sum(1), torch.ones(5))
    assert torch.allclose(model.classify(samples, batch=2), chances, atol=1e-5)
    with pytest.raises(
        LeafwingError, match=r"samples of shape \(\d+, 3, 8, 8\): those of this run have shape \(n, 3, 16, 16\)"
    ):
        model.classify(torch.zeros(1, 3, 8, 8))


def test_a_game_without_a_classifier_cannot_classify(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="no classifier"):
        plain.classify(plain.sample(1))


# --- attributes --------------------------------------------------------------------------------------------------------------

NAMES = ("smiling", "colour=blue", "colour=green", "colour=red", "old")
REAL = [[0, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 1], [1, 1, 0, 0, 1, 1]]  # the class, then the attributes


def attributed(conditions: str, rows: list[list[int]] | None = None) -> Model:
    spec = DataSpec.images(16, 16, labels=("ant", "bee"), attributes=NAMES)
    options = recipes.describe("cgan").resolve({"latent": 6, "width": 4, "max_width": 8, "condition_on": conditions})
    torch.manual_seed(0)
    result = recipes.build("cgan", recipes.find("cgan"), spec, options)
    real = np.array(REAL if rows is None else rows, np.uint8)
    columns = {"label": real[:, 0].astype(int), "attributes": real[:, 1:]} if len(real) else {}
    return Model(result, spec, examples=Examples(columns))


def rows_of(model: Model, n: int, seed: int = 0, **conditions: Any) -> np.ndarray:
    return model.conditions(n, seed, **conditions).attributes.numpy().astype(int)


@pytest.fixture(scope="module")
def faces() -> Model:
    return attributed("attributes")


def test_conditions_of_a_model(faces: Model, plain: Model) -> None:
    both, label = attributed("both"), attributed("label")
    assert (faces.labels, faces.attributes) == ((), NAMES)
    assert (both.labels, both.attributes) == (("ant", "bee"), NAMES)
    assert (label.labels, label.attributes) == (("ant", "bee"), ())
    assert [faces.can("attributes"), plain.can("attributes"), faces.can("label")] == [True, False, False]


def test_attributes_and_labels_change_the_samples_independently(faces: Model) -> None:
    one, other = np.array([[1, 0, 0, 1, 0]]), np.array([[0, 0, 0, 1, 0]])
    assert not torch.equal(faces.sample(1, attributes=one), faces.sample(1, attributes=other))
    assert torch.equal(faces.sample(1, attributes=one), faces.sample(1, attributes=torch.tensor(one)))
    both = attributed("both")
    assert not torch.equal(both.sample(1, label="ant", attributes=one), both.sample(1, label="bee", attributes=one))
    assert not torch.equal(both.sample(1, label="ant", attributes=one), both.sample(1, label="ant", attributes=other))


@pytest.mark.parametrize("settings", [None, {}, {"smiling": 1}, {"colour": "red"}, {"smiling": "0", "old": False}])
@pytest.mark.parametrize("examples", [REAL, []])
def test_attributes_do_not_depend_on_the_number_of_samples(
    settings: dict[str, str | int] | None, examples: list[list[int]]
) -> None:
    model = attributed("attributes", examples)
    many = rows_of(model, 150, 3, attributes=settings)
    assert (rows_of(model, 7, 3, attributes=settings) == many[:7]).all()
    assert torch.equal(model.sample(64, 3, attributes=settings), model.sample(70, 3, attributes=settings)[:64])
    if settings != {"colour": "red"} or not examples:
        assert len(np.unique(many, axis=0)) > 1
        assert (many != rows_of(model, 150, 4, attributes=settings)).any()


def test_conditions_can_be_passed_on(faces: Model) -> None:
    inputs = faces.conditions(5, 3, attributes={"smiling": 1})
    assert torch.equal(
        faces.generate(faces.latents(5, 3), **inputs),  # type: ignore[arg-type]
        faces.sample(5, 3, attributes={"smiling": 1}),
    )


def test_a_model_without_attributes_rejects_them(plain: Model, conditions: Model) -> None:
    for model, takes in ((plain, "no conditions"), (conditions, "label")):
        with pytest.raises(LeafwingError, match=f"does not generate its image from 'attributes'; it takes {takes}"):
            model.sample(2, attributes={"smiling": 1})


def test_a_model_with_attributes_only_rejects_a_label(faces: Model) -> None:
    with pytest.raises(LeafwingError, match="does not generate its image from 'label'; it takes attributes"):
        faces.sample(2, label=0)


def test_the_sheet_of_a_model_with_attributes_is_deterministic(faces: Model) -> None:
    for model in (faces, attributed("both")):
        assert sample_sheet(model).tobytes() == sample_sheet(model).tobytes()
        assert sample_sheet(model).tobytes() != sample_sheet(model, seed=1).tobytes()
