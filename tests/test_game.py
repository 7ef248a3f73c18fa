"""The vocabulary: behaviour of a spec, a batch, a clock, a round, a turn, a player and a game."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Box, Caption, Image, Keypoints, Label, Segmentation, Vector
from leafwing.game import EMA_SHARE, Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn, at


def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(nets, real=batch.image, fake=nets.G(batch.image), judge=nets.D, clock=clock)


def mean_score(r: Round) -> torch.Tensor:
    return r.fake_score.mean()


def test_a_picture_spec_knows_the_shape_of_one_sample() -> None:
    spec = DataSpec.images(24, 16, 3)
    assert (spec.shape, spec.size, spec.points) == ((3, 24, 16), 3 * 24 * 16, False)


def test_points_are_vectors_without_height_and_width() -> None:
    spec = DataSpec.vectors(2)
    assert (spec.shape, spec.size, spec.points) == ((2,), 2, True)


def test_the_fields_of_a_spec_are_read_by_their_common_names() -> None:
    spec = DataSpec.images(8, 6, 1, labels=("a", "b"), attributes=("old",), caption=Caption(("red",), 3))
    assert [*spec.fields] == ["image", "label", "attributes", "caption"]
    assert (spec.height, spec.width, spec.channels) == (8, 6, 1)
    assert (spec.labels, spec.attributes) == (("a", "b"), ("old",))
    plain = DataSpec.images(8, 6)
    assert (plain.labels, plain.attributes, plain.channels) == ((), (), 3)
    assert spec.with_channels(9).shape == (9, 8, 6)
    assert spec.with_channels(9).labels == ("a", "b")
    assert DataSpec.vectors(2).with_channels(6).shape == (6,)


def test_a_recipe_for_pictures_refuses_points_by_name() -> None:
    DataSpec.images(16, 16).need("mine", image=Image)
    DataSpec.vectors(2).need("mine", image=(Image, Vector))
    with pytest.raises(LeafwingError, match=r"mine needs images.*These data have points; `leafwing recipes`"):
        DataSpec.vectors(2).need("mine", image=Image)


def test_a_recipe_that_needs_labels_says_how_to_supply_them() -> None:
    DataSpec.images(16, 16, labels=("a",)).need("mine", label=Label)
    with pytest.raises(
        LeafwingError, match=r"mine needs labels.*sub-folder per class.*labels\.csv.*have image: image 16x16x3"
    ):
        DataSpec.images(16, 16).need("mine", label=Label)


@pytest.mark.parametrize(
    ("field", "kind", "message"),
    [
        ("attributes", Attributes, r"needs attributes: add a labels\.csv"),
        ("input", Image, r"needs the field input \(images\): say where it comes from with --input"),
        ("caption", Caption, r"needs captions: add captions next to the images: captions\.csv"),
        ("box", Box, r"needs boxes: add a boxes\.csv"),
        ("pose", (Keypoints, Vector), r"needs the field pose \(keypoints or vectors\)\. These data have image: image 8x8x3"),
    ],
)
def test_a_missing_field_is_named_with_how_to_provide_it(field: str, kind: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match="recipe mine " + message):
        DataSpec.images(8, 8).need("mine", **{field: kind})


def test_a_field_of_another_kind_is_refused_with_what_there_is() -> None:
    spec = DataSpec.images(8, 8, input=Segmentation(8, 8, ("sky", "sea")))
    spec.need("mine", input=(Image, Segmentation))
    with pytest.raises(LeafwingError, match=r"input \(images\)\. These data .*input: segmentation 8x8 \(2 classes\)"):
        spec.need("mine", input=Image)


def test_an_unpaired_field_is_refused_unless_it_is_allowed() -> None:
    spec = DataSpec({"image": Image(8, 8), "input": Image(8, 8)}, unpaired=("input",))
    spec.need("mine", unpaired=("input",), image=Image, input=Image)
    DataSpec.images(8, 8, input=Image(8, 8)).need("mine", unpaired=("input",), input=Image)  # pairs serve too
    with pytest.raises(LeafwingError, match=r"belongs to each image, but here it comes from a second source.*Say where"):
        spec.need("mine", image=Image, input=Image)


def test_a_spec_survives_plain_json() -> None:
    spec = DataSpec({"image": Image(8, 8), "input": Image(8, 8, 1)}, unpaired=("input",))
    plain = json.loads(json.dumps(spec.as_dict()))
    assert plain["fields"]["input"] == {"kind": "image", "height": 8, "width": 8, "channels": 1}
    assert plain["unpaired"] == ["input"]
    assert "unpaired" not in DataSpec.vectors().as_dict()


def test_a_batch_reads_fields_as_attributes_and_counts_its_samples() -> None:
    batch = Batch(image=torch.zeros(5, 2), label=torch.arange(5))
    assert batch.label is batch["label"]
    assert batch.n == 5


def test_an_unknown_field_is_reported_with_the_existing_ones() -> None:
    with pytest.raises(AttributeError, match=r"no field 'caption'.*image, label"):
        _ = Batch(image=torch.zeros(1), label=torch.zeros(1)).caption


def test_rows_of_a_batch() -> None:
    batch = Batch(image=torch.arange(10.0).view(5, 2), label=torch.arange(5))
    assert batch.rows(slice(1, 3)).label.tolist() == [1, 2]
    assert batch.rows(torch.tensor([4, 4])).image.tolist() == [[8, 9], [8, 9]]
    assert batch.to("meta").image.device.type == "meta"


@pytest.mark.parametrize(
    ("images", "total", "planned", "progress"),
    [(0, 100, 0, 0), (50, 100, 0, 0.5), (50, 200, 100, 0.5), (150, 200, 100, 1), (30, 60, 100, 0.3), (7, 0, 0, 0)],
)
def test_planned_progress_does_not_go_back_when_training_is_extended(
    images: int, total: int, planned: int, progress: float
) -> None:
    assert Clock(images, total, planned=planned).planned_progress == progress


def test_stages_follow_planned_progress() -> None:
    game = Game({"G": Player(nn.Linear(2, 2))}, [], Abilities(), stage=lambda clock: int(clock.planned_progress * 3))
    assert game.at_stage(Clock(60, 100)).stage == 1
    assert game.at_stage(Clock(60, 1000, planned=60)).stage == 3
    assert Game(game.players, [], Abilities()).at_stage(Clock(60, 100)) == Clock(60, 100)
    late = Turn("G", play, [], during=(0.5, inf))
    assert [late.times(Clock(60, total, planned=100)) for total in (100, 1000)] == [1, 1]


@pytest.mark.parametrize(
    ("images", "total", "progress"), [(0, 100, 0.0), (25, 100, 0.25), (100, 100, 1.0), (130, 100, 1.0), (7, 0, 0.0)]
)
def test_progress_is_the_share_of_the_images_shown_and_never_above_one(images: int, total: int, progress: float) -> None:
    assert Clock(images, total).progress == Clock(images, total).planned_progress == progress
    assert Clock(images).progress == 0, "of an unknown total"


def test_a_scheduled_number_is_a_number_or_a_function_of_the_clock() -> None:
    assert at(0.5, Clock(7, 10)) == 0.5
    assert at(lambda clock: clock.images * 2.0, Clock(7, 10)) == 14.0


def test_a_turn_is_taken_every_n_rounds_from_the_first_on() -> None:
    turn = Turn("D", play, [], every=3)
    assert [turn.times(Clock(round=i)) for i in range(7)] == [1, 0, 0, 1, 0, 0, 1]


def test_a_turn_repeats_a_fixed_number_of_times_or_as_the_clock_says() -> None:
    assert Turn("D", play, [], repeat=5).times(Clock(round=1)) == 5
    burst = Turn("D", play, [], repeat=lambda clock: 100 if clock.round < 2 else 5)
    assert [burst.times(Clock(round=i)) for i in range(4)] == [100, 100, 5, 5]


def test_during_includes_its_start_and_excludes_its_end() -> None:
    early, late = Turn("G", play, [], during=(0, 0.5)), Turn("G", play, [], during=(0.5, inf))
    clocks = [Clock(images, 100) for images in (0, 49, 50, 99, 100)]
    assert [early.times(clock) for clock in clocks] == [1, 1, 0, 0, 0]
    assert [late.times(clock) for clock in clocks] == [0, 0, 1, 1, 1]


def test_every_during_and_repeat_combine() -> None:
    turn = Turn("G", play, [], every=2, repeat=3, during=(0.5, inf))
    assert turn.times(Clock(90, 100, round=4)) == 3
    assert turn.times(Clock(90, 100, round=5)) == 0
    assert turn.times(Clock(10, 100, round=4)) == 0


def test_movers_are_separated_by_spaces() -> None:
    assert Turn("G  E", play, []).movers == ("G", "E")


def test_a_score_is_computed_on_first_access_and_once() -> None:
    judged: list[str] = []

    def judge(x: torch.Tensor) -> torch.Tensor:
        judged.append("real" if x.mean() > 0 else "fake")
        return x.sum(1)

    r = Round(Nets(), real=torch.ones(3, 2), fake=-torch.ones(3, 2), judge=judge)
    assert judged == []
    assert r.fake_score is r.fake_score
    assert judged == ["fake"], "real_score was computed without being accessed"
    assert torch.equal(r.real_score, torch.full((3,), 2.0))
    assert judged == ["fake", "real"]


def test_scores_are_fp32_whatever_the_judge_computes_in() -> None:
    r = Round(Nets(), real=torch.ones(2, 2), fake=torch.zeros(2, 2), judge=lambda x: x.sum(1).bfloat16())
    assert r.real_score.dtype == r.fake_score.dtype == torch.float32


def test_facts_of_a_round_are_read_as_attributes() -> None:
    r = Round(Nets(), torch.zeros(1), torch.zeros(1), lambda x: x, clock=Clock(3), caption="a cat")
    assert (r.clock.images, r.caption) == (3, "a cat")


def test_a_critic_may_return_more_than_scores_and_runs_once_per_batch() -> None:
    sizes: list[int] = []

    def judge(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(x))
        return x.sum(1).half(), 2 * x.half()

    r = Round(Nets(), torch.ones(3, 2), torch.zeros(4, 2), judge)
    assert r.real_score.tolist() == [2, 2, 2]
    assert r.real_heads.shape == (3, 2)
    assert (r.real_score.dtype, r.fake_heads.dtype) == (torch.float32, torch.float32)
    assert r.fake_score.shape == (4,)
    assert sizes == [3, 4]
    other = r.with_samples(torch.ones(5, 2), torch.zeros(6, 2))
    assert other.real_heads.shape == (5, 2)
    assert sizes == [3, 4, 5]


def test_a_round_may_have_no_fakes_or_no_judge() -> None:
    r = Round(Nets(), real=torch.ones(3, 2), judge=lambda x: x.sum(1), seen=7)
    assert r.fake is None
    assert r.real_score.tolist() == [2] * 3
    assert r.with_samples(None, torch.zeros(1, 2)).fake_score.tolist() == [0]  # type: ignore[attr-defined]
    bare = Round(Nets(), matched=torch.ones(2))
    assert (bare.real, bare.fake, bare.judge, bare.judge_fake) == (None, None, None, None)
    assert bare.matched.sum() == 2  # type: ignore[attr-defined]


def test_fakes_may_have_another_judge() -> None:
    r = Round(Nets(), torch.ones(3, 2), torch.ones(4, 2), lambda x: x.sum(1), judge_fake=lambda x: 5 * x.sum(1))
    assert (r.real_score.tolist(), r.fake_score.tolist()) == ([2] * 3, [10] * 4)


def test_a_game_refuses_a_turn_of_an_unknown_player() -> None:
    players = {"G": Player(nn.Linear(2, 2)), "D": Player(nn.Linear(2, 1))}
    with pytest.raises(ValueError, match=r"moves 'E', but the players are: G, D"):
        Game(players, [Turn("G E", play, [])], Abilities())


def test_an_optimiser_of_torch_is_refused_with_what_to_give() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(
        LeafwingError, match=r"such as Adam\(2e-4\), not torch\.optim\.adam\.Adam; .*on_host, build and scheduled"
    ):
        Player(net, torch.optim.Adam.__new__(torch.optim.Adam))  # type: ignore[arg-type]


def test_a_player_without_half_life_has_no_average() -> None:
    assert Player(nn.Linear(2, 2), Adam(0.1)).ema_net is None


def test_the_average_starts_equal_and_is_an_independent_frozen_copy() -> None:
    player = Player(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), Adam(0.1), ema=1000)
    assert player.ema_net is not None
    assert torch.equal(player.ema_net[0].weight, player.net[0].weight)
    assert not any(weight.requires_grad for weight in player.ema_net.parameters())
    assert all(weight.requires_grad for weight in player.net.parameters())
    assert player.net.training
    assert not any(module.training for module in player.ema_net.modules())
    with torch.no_grad():
        player.net[0].weight.add_(1)
    assert not torch.equal(player.ema_net[0].weight, player.net[0].weight)


class Memory(nn.Module):
    """A loss with state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, r: Round) -> torch.Tensor:
        return r.fake_score.mean()


def test_modules_are_everything_with_state() -> None:
    memory = Memory()
    players = {"G": Player(nn.Linear(2, 2), ema=10), "D": Player(nn.Linear(2, 1))}
    turns = [
        Turn("D", play, [Term("adversarial", mean_score), Term("memory", memory)]),
        Turn("G", play, [Term("x", mean_score)]),
    ]
    game = Game(players, turns, Abilities())
    assert game.modules() == {
        "G": players["G"].net, "D": players["D"].net, "G.average": players["G"].ema_net, "term.memory": memory,
    }  # fmt: skip


def test_users_see_the_averaged_copy_where_there_is_one() -> None:
    players = {"G": Player(nn.Linear(2, 2), ema=10), "D": Player(nn.Linear(2, 1))}
    game = Game(players, [], Abilities())
    assert isinstance(game.sampling_nets, SimpleNamespace)
    assert game.sampling_nets.G is players["G"].ema_net
    assert game.sampling_nets.D is players["D"].net
    assert game.nets.G is players["G"].net


def test_a_moving_average_forgets_the_beginning_as_the_guide_says() -> None:
    guide = Path(__file__).parents[1] / "docs" / "guide" / "recipes.md"
    assert "a tenth of the images shown so far" in guide.read_text(encoding="utf-8")
    assert EMA_SHARE == 0.1
