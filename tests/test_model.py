"""A trained generator: the samples of a seed depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leafwing import recipes
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, DataSpec, Game, Player
from leafwing.model import Model
from leafwing.parts.plays import generating
from leafwing.parts.priors import Normal
from leafwing.pictures import sample_sheet

pytestmark = pytest.mark.machine

PICTURES = DataSpec(16, 16, 3)
LABELLED = DataSpec(16, 16, 3, ("ant", "bee", "2"))


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


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
def test_samples_do_not_depend_on_their_number(plain: Model, n: int) -> None:
    many = plain.sample(150, seed=3)
    assert torch.equal(plain.sample(n, seed=3), many[:n])


@pytest.mark.parametrize("n", [1, 5, 8, 9])
def test_rounding_does_not_depend_on_the_number_of_samples(n: int) -> None:
    """Kernels round depending on the shape; this one exaggerates it."""
    abilities = Abilities(prior=Normal(2), generate=lambda nets, z, label: z * (1 + len(z) / 100))
    model = Model(Game({}, [], abilities), DataSpec(0, 0, 2))
    assert torch.equal(model.sample(n, batch=8), model.sample(20, batch=8)[:n])


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_samples_do_not_depend_on_the_batch_size(plain: Model, batch: int) -> None:
    assert torch.allclose(plain.sample(20, batch=batch), plain.sample(20), atol=1e-5)


def test_all_samples_of_a_seed_differ_from_one_another(plain: Model) -> None:
    latents = plain.latents(300, 0)
    assert len(latents.unique(dim=0)) == 300, "blocks of latents repeat"


def test_neighbouring_seeds_share_no_latent(plain: Model) -> None:
    latents = torch.cat([plain.latents(200, seed) for seed in (0, 1, 2)])
    assert len(latents.unique(dim=0)) == 600


def test_default_labels_do_not_depend_on_the_number_of_samples(conditions: Model) -> None:
    assert torch.equal(conditions.sample(2, seed=3), conditions.sample(70, seed=3)[:2])


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


def test_training_mode_is_restored_even_when_generating_fails(plain: Model) -> None:
    net = plain.game.players["G"].net
    net.train()
    with pytest.raises(RuntimeError):
        plain.generate(torch.zeros(2, 999))
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


def test_generate_accepts_given_latents(plain: Model) -> None:
    assert torch.equal(plain.generate(plain.latents(4, 9)), plain.sample(4, 9))


def test_points_have_the_units_of_the_data_and_are_not_clipped() -> None:
    prior = Normal(2)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.eye(2) * 50)
        net.bias.zero_()
    model = Model(Game({"G": Player(net)}, [], generating(prior)), DataSpec(0, 0, 2))
    assert model.sample(10).shape == (10, 2)
    assert torch.allclose(model.sample(10), model.latents(10) * 50)


def test_images_are_clipped() -> None:
    abilities = Abilities(prior=Normal(2), generate=lambda nets, z, label: z[:, :1, None, None].expand(-1, 3, 16, 16) * 50)
    model = Model(Game({"G": Player(nn.Linear(2, 2))}, [], abilities), PICTURES)
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
    abilities = Abilities(Normal(2), lambda nets, z, label: passes.append(nets.G.training) or nets.G(z))
    net = nn.Linear(2, 2)
    blocks = Model(Game({"G": Player(net)}, [], abilities), DataSpec(0, 0, 2)).stream(torch.zeros(10, 2), batch=4)
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
    for given in ({"label": "bea"}, {"batch": 0}):
        with pytest.raises(LeafwingError):
            conditions.stream(conditions.latents(2), **given)
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
    for n in (1, 64, 65):
        assert torch.equal(fast.sample(n, seed=3), many[:n])
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
    model = Model(plain.game, PICTURES, compile=True, say=message.append)
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
    assert torch.equal(conditions.sample(3, label="1"), by_index)
    assert torch.equal(conditions.sample(3, label=["bee", 1, "bee"]), by_index)
    assert torch.equal(conditions.sample(3, label=torch.tensor([1, 1, 1])), by_index)
    assert differ(by_index, conditions.sample(3, label="ant"))


def test_a_name_that_looks_like_a_number_is_a_name(conditions: Model) -> None:
    digits = Model(conditions.game, DataSpec(16, 16, 3, ("7", "0", "1")))
    assert digits.classes("0", 2) == [1, 1]
    assert digits.classes("2", 1) == [2]
    assert digits.classes(0, 1) == [0]


def test_without_a_label_classes_come_in_turn(conditions: Model) -> None:
    assert conditions.classes(None, 5) == [0, 1, 2, 0, 1]
    assert torch.equal(conditions.sample(4), conditions.sample(4, label=[0, 1, 2, 0]))


def test_a_sequence_of_labels_keeps_its_order_over_several_passes(conditions: Model) -> None:
    labels = [i % 2 for i in range(10)]
    assert torch.allclose(conditions.sample(10, label=labels, batch=3), conditions.sample(10, label=labels), atol=1e-5)


def test_a_model_reports_its_abilities(plain: Model, conditions: Model) -> None:
    assert plain.can("generate")
    assert conditions.can("label")
    assert not plain.can("label")
    assert not plain.can("encode")
    assert not Model(Game({}, [], Abilities()), PICTURES).can("generate")
    assert (plain.labels, conditions.labels) == ((), ("ant", "bee", "2"))


def test_an_unconditional_model_has_no_labels(plain: Model) -> None:
    unconditional = Model(plain.game, LABELLED)
    assert unconditional.labels == ()
    with pytest.raises(LeafwingError, match=r"no labels.*sample without a label"):
        unconditional.sample(2, label="ant")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("bea", "no class 'bea'; did you mean bee.*[Aa]vailable: ant, bee, 2"),
        (3, "no class 3: this run has 3 classes, 0 to 2"),
        (-1, "no class -1"),
        ("-1", "no class -1"),
        (["ant", "bee"], "2 labels for 3 samples"),
        ([], "0 labels for 3 samples"),
        (["ant", "bee", "cow"], "no class 'cow'"),
    ],
)
def test_an_unknown_label_is_an_error_that_lists_the_known_ones(conditions: Model, label: object, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        conditions.sample(3, label=label)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "seed", "message"), [(0, 0, "n=0"), (-2, 0, "n=-2"), (1, -1, "seed -1"), (1, 2**32, "seed 4294967296")]
)
def test_invalid_numbers_are_rejected_by_name(plain: Model, n: int, seed: int, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        plain.sample(n, seed)


@pytest.mark.parametrize("batch", [0, -1])
def test_an_invalid_batch_size_is_rejected_by_name(plain: Model, batch: int) -> None:
    with pytest.raises(LeafwingError, match="batch"):
        plain.sample(2, batch=batch)


def test_the_largest_seed_works(plain: Model) -> None:
    assert plain.latents(1, 2**32 - 1).shape == (1, 6)


def test_a_missing_ability_is_an_error() -> None:
    model = Model(Game({}, [], Abilities()), PICTURES)
    with pytest.raises(LeafwingError, match="no latent prior"):
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
    with pytest.raises(LeafwingError, match="the latents of this run have no named parts"):
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
    with pytest.raises(LeafwingError, match=r"samples of shape \(3, 8, 8\): those of this run have shape \(3, 16, 16\)"):
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
    with pytest.raises(LeafwingError, match=r"samples of shape \(3, 8, 8\): those of this run have shape \(3, 16, 16\)"):
        model.classify(torch.zeros(1, 3, 8, 8))


def test_a_game_without_a_classifier_cannot_classify(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="no classifier"):
        plain.classify(plain.sample(1))


# --- attributes --------------------------------------------------------------------------------------------------------------

NAMES = ("smiling", "colour=blue", "colour=green", "colour=red", "old")
REAL = [[0, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 1], [1, 1, 0, 0, 1, 1]]  # the class, then the attributes


def attributed(conditions: str, combinations: list[list[int]] | None = None) -> Model:
    spec = DataSpec(16, 16, 3, ("ant", "bee"), ("image", "label", "attributes"), NAMES)
    options = recipes.describe("cgan").resolve({"latent": 6, "width": 4, "max_width": 8, "condition_on": conditions})
    torch.manual_seed(0)
    result = recipes.build("cgan", recipes.find("cgan"), spec, options)
    return Model(result, spec, combinations=REAL if combinations is None else combinations)


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
@pytest.mark.parametrize("combinations", [REAL, []])
def test_attributes_do_not_depend_on_the_number_of_samples(
    settings: dict[str, str | int] | None, combinations: list[list[int]]
) -> None:
    model = attributed("attributes", combinations)
    many = model.attribute_rows(settings, 150, 3)
    assert (model.attribute_rows(settings, 7, 3) == many[:7]).all()
    assert torch.equal(model.sample(2, 3, attributes=settings), model.sample(70, 3, attributes=settings)[:2])
    if settings != {"colour": "red"} or not combinations:
        assert len(np.unique(many, axis=0)) > 1
        assert (many != model.attribute_rows(settings, 150, 4)).any()


def test_unspecified_attributes_follow_the_real_data(faces: Model) -> None:
    real = {tuple(row[1:]) for row in REAL}
    assert {tuple(row) for row in faces.attribute_rows(None, 200).tolist()} == real
    smiling = {tuple(row) for row in faces.attribute_rows({"smiling": 1}, 200).tolist()}
    assert smiling == {row for row in real if row[0] == 1}
    assert {tuple(row) for row in faces.attribute_rows({"colour": "green"}, 50).tolist()} == {(0, 0, 1, 0, 1)}


def test_boolean_values_have_several_spellings(faces: Model) -> None:
    for yes in (1, "1", True, "yes", "True"):
        assert (faces.attribute_rows({"smiling": yes}, 9) == faces.attribute_rows({"smiling": 1}, 9)).all()
    assert not faces.attribute_rows({"smiling": "no"}, 9)[:, 0].any()


def test_unseen_combinations_can_be_requested(faces: Model) -> None:
    rows = faces.attribute_rows({"smiling": 1, "colour": "green"}, 50)
    assert (rows[:, :4] == [1, 0, 1, 0]).all()
    assert set(rows[:, 4].tolist()) == {0, 1}


def test_attributes_match_the_class_if_the_model_has_both() -> None:
    model = attributed("both")
    rows = model.attribute_rows(None, 100, 0, [i % 2 for i in range(100)])
    assert {tuple(row) for row in rows[::2].tolist()} == {tuple(row[1:]) for row in REAL if row[0] == 0}
    assert {tuple(row) for row in rows[1::2].tolist()} == {tuple(row[1:]) for row in REAL if row[0] == 1}


def test_without_real_combinations_attributes_are_random_and_categories_valid() -> None:
    rows = attributed("attributes", []).attribute_rows({"old": 1}, 400)
    assert (rows[:, 1:4].sum(1) == 1).all()
    assert (rows[:, 4] == 1).all()
    for share in (rows[:, 0].mean() * 2 / 3, *rows[:, 1:4].mean(0)):
        assert 0.25 < share < 0.42


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smilng": 1}, "did you mean smiling.*[Aa]vailable: smiling, colour, old"),
        ({"smiling": 2}, "smiling must be 0 or 1"),
        ({"smiling": "maybe"}, "smiling must be 0 or 1"),
        ({"colour": "rad"}, "no value 'rad'; did you mean red.*blue, green, red"),
        (np.zeros((3, 4)), r"\(2, 5\)"),
        (np.full((2, 5), 0.5), "zeros and ones"),
    ],
)
def test_unknown_attributes_are_named(faces: Model, settings: object, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        faces.sample(2, attributes=settings)  # type: ignore[arg-type]


def test_a_model_without_attributes_rejects_them(plain: Model, conditions: Model) -> None:
    for model in (plain, conditions):
        with pytest.raises(LeafwingError, match="this run has no attributes"):
            model.sample(2, attributes={"smiling": 1})


def test_a_model_with_attributes_only_rejects_a_label(faces: Model) -> None:
    with pytest.raises(LeafwingError, match="this run has no labels"):
        faces.sample(2, label=0)


def test_the_sheet_of_a_model_with_attributes_is_deterministic(faces: Model) -> None:
    for model in (faces, attributed("both")):
        assert sample_sheet(model).tobytes() == sample_sheet(model).tobytes()
