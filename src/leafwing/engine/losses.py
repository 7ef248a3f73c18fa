"""The losses of a turn in a round."""

from __future__ import annotations

from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.game import Round, Turn


def losses_of(turn: Turn, r: Round) -> list[Tensor]:
    """The losses of a turn's terms in a round, each a scalar.

    Raises:
        LeafwingError: a loss is no scalar tensor, or none depends on the movers.
    """
    losses = [term.loss(r) for term in turn.losses]
    for term, loss in zip(turn.losses, losses, strict=True):
        if not isinstance(loss, Tensor) or loss.dim():
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"of type {type(loss).__name__}"
            reason = "it must be a scalar tensor, such as a mean over the batch"
            raise LeafwingError(f"the loss {term.name!r} of the turn {turn.moves!r} is {what}: {reason}")
    if not any(loss.requires_grad for loss in losses):
        names = ", ".join(term.name for term in turn.losses)
        raise LeafwingError(f"no loss of the turn {turn.moves!r} ({names}) depends on the weights of its movers")
    return losses


def differentiates_twice(turn: Turn) -> bool:
    """Whether a term of the turn contains a gradient."""
    return any(term.second_order for term in turn.losses)
