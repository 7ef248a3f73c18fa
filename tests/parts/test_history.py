"""The history of generated samples."""

import pytest
import torch

from leafwing.engine.share import SharedDraws
from leafwing.parts.history import History


def test_nothing_is_replaced_until_it_is_full() -> None:
    history = History(4, (1,))
    x = torch.arange(4.0)[:, None]
    assert torch.equal(history(x), x)
    assert torch.equal(history.fakes, x)


def test_half_of_the_fakes_are_then_replaced_by_stored_ones_which_they_succeed() -> None:
    torch.manual_seed(0)
    history = History(8, (1,))
    history(torch.zeros(8, 1))
    shown = [history(torch.full((4, 1), float(step))) for step in range(1, 501)]
    now = sum(float((part == step).float().sum()) for step, part in enumerate(shown, 1))
    assert abs(now / 2000 - 0.5) < 5 * (0.25 / 2000) ** 0.5
    values = torch.cat(shown)
    assert all((values == step).sum() + (history.fakes == step).sum() == 4 for step in range(1, 501)), (
        "none is lost or shown twice"
    )


def test_the_contents_are_part_of_the_state() -> None:
    history = History(4, (2,))
    history(torch.ones(4, 2))
    other = History(4, (2,))
    other.load_state_dict(history.state_dict())
    torch.manual_seed(1)
    first = history(torch.zeros(3, 2))
    torch.manual_seed(1)
    assert torch.equal(other(torch.zeros(3, 2)), first)


def test_an_empty_history_changes_nothing() -> None:
    x = torch.rand(3, 2)
    assert torch.equal(History(0, (2,))(x), x)


@pytest.mark.parametrize(("size", "first"), [(16, 2), (8, 2), (8, 5), (8, 7)])
def test_parts_of_a_batch_are_stored_and_replaced_like_the_whole(size: int, first: int) -> None:
    """Micro-batches draw the same permutation, whatever its length; they must not use the same places of it."""
    whole, parts = History(size, (1,)), History(size, (1,))
    for history in (whole, parts):
        history(torch.zeros(size, 1))
    for step in range(1, 6):
        x = torch.full((8, 1), float(step))
        torch.manual_seed(step)
        expected = whole(x)
        torch.manual_seed(step)
        draws = SharedDraws(8, slice(0, first))
        with draws:
            shown = []
            for start in range(0, 8, first):
                rows = slice(start, min(8, start + first))
                draws.rewind(rows)
                shown.append(parts(x[rows]))
        assert torch.equal(torch.cat(shown), expected)
        assert torch.equal(parts.fakes, whole.fakes)


def test_of_a_batch_larger_than_the_history_none_is_lost_or_shown_twice() -> None:
    torch.manual_seed(0)
    history = History(8, (1,))
    shown = torch.cat([history(torch.arange(20 * step, 20 * step + 20.0)[:, None]) for step in range(50)])
    seen = torch.cat([shown, history.fakes]).flatten().tolist()
    assert sorted(seen) == sorted([*range(1000), *range(8)]), "those that filled it are shown, and stored"
