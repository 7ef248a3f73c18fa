"""Gradient-based optimisation of latents, and the real pictures to fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.latents import whole_numbers
from leafwing.model import Labels, Model, evaluating
from leafwing.progress import Progress, no_progress

AT_ONCE = 64
"""Number of latents optimised in parallel."""
POOL = 100
"""Number of random samples from which the best starting points are chosen."""
DRAWS = 4_096
"""Number of prior draws whose minimum and maximum bound the latents in each dimension."""
PAST, TRIES, SHORTER, DESCENT = 8, 6, 0.3, 1e-4
"""L-BFGS: history size; maximum line search steps and their shrinking factor; Armijo constant."""

Cost = Callable[[Tensor, Tensor], Tensor]
"""Latents (k, size) and the index of each one's target picture (k,) -> independent losses (k,)."""
Value = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Unconstrained variables (k, size) and their row indices (k,) -> losses and gradients."""


@dataclass(frozen=True)
class Box:
    """The range of a prior, `low` to `high` (size,), and a reparametrisation by unconstrained variables.

    z = middle + half tanh(u / half), with unit slope at the middle. So optimisers need no bounds, whether those of a uniform prior or
    the extremes of a normal one.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, model: Model) -> Box:
        """The box of a model's prior."""
        assert model.game.abilities.prior is not None
        drawn = model.game.abilities.prior(DRAWS, "cpu", torch.Generator().manual_seed(0)).to(model.device)
        return cls(drawn.amin(0), drawn.amax(0))

    def free(self, latents: Tensor) -> Tensor:
        """The unconstrained variables of latents, which are clipped to the range."""
        middle, half = self._shape()
        return half * torch.atanh(((latents - middle) / half).clamp(-0.9999, 0.9999))

    def inside(self, free: Tensor) -> Tensor:
        """The latents of unconstrained variables."""
        middle, half = self._shape()
        return middle + half * torch.tanh(free / half)

    def _shape(self) -> tuple[Tensor, Tensor]:
        return (self.low + self.high) / 2, ((self.high - self.low) / 2).clamp(min=1e-6)


def begin(model: Model, cost: Cost, n: int, starts: int, seed: int) -> Tensor:
    """The latents with the lowest loss among `POOL` random ones for each of n pictures, best first: (n * starts, size)."""
    pool = model.latents(max(POOL, starts), seed)
    chosen = []
    for i in range(n):
        whose = torch.full((len(pool),), i, device=pool.device)
        with torch.no_grad():
            costs = torch.cat([cost(*part) for part in zip(pool.split(AT_ONCE), whose.split(AT_ONCE), strict=True)])
        chosen.append(pool[costs.argsort(stable=True)[:starts]])
    return torch.cat(chosen)


def fit(
    cost: Cost,
    starts: Tensor,
    whose: Tensor,
    box: Box,
    *,
    steps: int,
    method: str = "adam",
    rate: float = 0.1,
    report_progress: Progress = no_progress,
    what: str = "fitting latents",
) -> tuple[Tensor, Tensor]:
    """Minimises a loss over latents, independently from each starting point.

    Args:
        cost: the loss.
        starts: starting points (n, size).
        whose: index of each one's target picture (n,).
        box: range of the latents.
        steps: number of steps.
        method: adam, with a learning rate that decays linearly to 0; or lbfgs, with a separate step size per row.
        rate: learning rate of adam.
        report_progress: progress callback.
        what: its description.

    Returns:
        The best latents found (n, size), and their losses (n,).
    """

    def value(free: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        given = free.detach().requires_grad_()
        costs = cost(box.inside(given), whose[rows])
        return costs.detach(), torch.autograd.grad(costs.sum(), given)[0]

    found = []
    parts = torch.arange(len(starts), device=starts.device).split(AT_ONCE)
    for i, rows in enumerate(parts):

        def told(step: int, i: int = i) -> None:
            report_progress(what, i * steps + step, len(parts) * steps)

        free = box.free(starts[rows])
        found.append(
            _adam(value, free, rows, steps, rate, told) if method == "adam" else _lbfgs(value, free, rows, steps, told)
        )
    free, costs = (torch.cat(one) for one in zip(*found, strict=True))
    return box.inside(free), costs


def _adam(
    value: Value, free: Tensor, rows: Tensor, steps: int, rate: float, told: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    moved = torch.nn.Parameter(free.clone())
    optimiser = torch.optim.Adam([moved])
    best, least = free.clone(), torch.full((len(free),), torch.inf, device=free.device)
    for i in range(steps + 1):
        costs, moved.grad = value(moved, rows)
        better = costs < least
        best[better], least[better] = moved.detach()[better], costs[better]
        if i < steps:
            optimiser.param_groups[0]["lr"] = rate * (1 - i / steps)
            optimiser.step()
            told(i + 1)
    return best, least


def _lbfgs(value: Value, free: Tensor, rows: Tensor, steps: int, told: Callable[[int], None]) -> tuple[Tensor, Tensor]:
    """Liu & Nocedal 1989, On the limited memory BFGS method: every row is a separate problem, all are solved in parallel.

    A row whose line search fails restarts from steepest descent; if that fails too, it has converged.
    """
    free = free.clone()
    costs, slopes = value(free, rows)
    past: list[tuple[Tensor, Tensor, Tensor]] = []  # step, change of gradient, 1 / their product (0 if invalid)
    scale, fresh, arrived = (
        torch.ones_like(costs),
        torch.ones_like(costs, dtype=torch.bool),
        torch.zeros_like(costs, dtype=torch.bool),
    )
    for i in range(steps):
        way = _direction(slopes, past, scale)
        promised = (way * slopes).sum(1)
        length = torch.where(fresh, 1 / slopes.norm(dim=1).clamp(min=1e-12), 1.0)
        trying, stuck = ~arrived, ~arrived
        before, before_slopes = free.clone(), slopes.clone()
        for _ in range(TRIES):
            k = stuck.nonzero()[:, 0]
            new = before[k] + length[k, None] * way[k]
            new_costs, new_slopes = value(new, rows[k])
            good = new_costs <= costs[k] + DESCENT * length[k] * promised[k]
            free[k[good]], costs[k[good]], slopes[k[good]] = new[good], new_costs[good], new_slopes[good]
            stuck[k[good]] = False
            length[k] *= SHORTER
            if not stuck.any():
                break
        step, change = free - before, slopes - before_slopes
        product = (step * change).sum(1)
        curved = trying & ~stuck & (product > 1e-10)
        past = [*past[-PAST + 1 :], (step, change, torch.where(curved, 1 / product, 0.0))]
        scale = torch.where(curved, product / change.square().sum(1).clamp(min=1e-20), scale)
        arrived = arrived | (stuck & fresh)
        for _, _, inverse in past:
            inverse[stuck] = 0
        scale[stuck], fresh = 1.0, stuck
        told(i + 1)
        if arrived.all():
            break
    return free, costs


def _direction(slopes: Tensor, past: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The search direction: two-loop recursion of L-BFGS."""
    way, shares = slopes.clone(), []
    for step, change, inverse in reversed(past):
        share = inverse * (step * way).sum(1)
        way -= share[:, None] * change
        shares.append(share)
    way *= scale[:, None]
    for (step, change, inverse), share in zip(past, reversed(shares), strict=True):
        way += (share - inverse * (change * way).sum(1))[:, None] * step
    return -way


def judged(model: Model, pictures: Tensor, told: list[Tensor]) -> Tensor:
    """The critic's scores (n,) of pictures, through which gradients flow; see `Model.judge`."""
    judge, nets = model.game.abilities.judge, model.game.shown
    assert judge is not None
    with evaluating(nets):
        return judge(nets, pictures, *(told or (None,))).float()


def made_of(model: Model, latents: Tensor, told: list[Tensor]) -> Tensor:
    """Samples from latents with the conditions of `Model.told`, clipped to [-1, 1], without gradients."""
    said = dict(zip(model.game.abilities.conditions, told, strict=True))
    return model.generate(latents, label=said.get("label"), attributes=said.get("attributes"))


def cheapest(latents: Tensor, costs: Tensor, each: int) -> Tensor:
    """The row with the lowest loss in every group of `each` consecutive rows: (n / each, size)."""
    best = costs.view(-1, each).argmin(1) + torch.arange(len(costs) // each, device=costs.device) * each
    return latents[best]


@dataclass(frozen=True)
class Real:
    """Real pictures and their conditions.

    Args:
        names: name of each picture.
        pixels: uint8 (n, channels, height, width).
        pictures: the same as floats in [-1, 1].
        told: the conditions, n of each; see `Model.told`.
    """

    names: list[str]
    pixels: Tensor
    pictures: Tensor
    told: list[Tensor]


def real(model: Model, held: Dataset, pictures: str, label: str | None, file: Path | None = None) -> Real:
    """The pictures selected by the user, with the conditions that the model takes.

    Args:
        model: the model.
        held: the data set.
        pictures: indices in the order of `held` shuffled with seed 0: `3,5,8` or `0:10`; too large ones are ignored.
        label: class of all pictures; None for their own.
        file: a picture file or folder to use instead, resized like the run's data.

    Raises:
        LeafwingError: no such pictures, or no class for a class-conditional run.
    """
    if file is None:
        numbers = [number for number in whole_numbers("pictures", pictures) if number < len(held)]
        if not numbers:
            raise LeafwingError(f"--pictures {pictures}: there are {len(held)} pictures, 0 to {len(held) - 1}")
        rows = held.epoch(0, 0)[0][numbers]
        names, pixels = [str(number) for number in numbers], torch.from_numpy(held.array[rows])
    else:
        names, pixels = _read(file, held)
        rows = None
    labels: Labels = label
    if model.labels and label is None:
        if rows is None or held.labels is None:
            raise LeafwingError(
                f"this run is class-conditional, and these pictures have no labels: set one, as in --label {model.labels[0]}"
            )
        labels = [held.spec.labels[held.labels[row]] for row in rows]
    own = rows is not None and held.attributes is not None and held.spec.attributes == model.attributes
    attributes = held.attributes[rows] if own and held.attributes is not None else None
    told = model.told(len(pixels), labels, attributes if model.attributes else None)
    pixels = pixels.permute(0, 3, 1, 2)
    return Real(names, pixels, (pixels.float() / 127.5 - 1).to(model.device), told)


def _read(file: Path, held: Dataset) -> tuple[list[str], Tensor]:
    """The names and pixels (n, height, width, channels) of a picture file, or of those in a folder."""
    from leafwing.data import pictures, sources
    from leafwing.data.options import check

    if not file.exists():
        raise LeafwingError(f"--file {file}: no such file or folder")
    shape = held.spec
    target = check((shape.height, shape.width), shape.channels, held.options["fit"], held.options["background"]).target(
        (0, 0), 0
    )
    found = [one for one in sources.list_files(file)[0] if not sources.is_side(one.name)]
    names, pixels = [], []
    with pictures.strict():
        for one in found[:AT_ONCE]:
            try:
                pixels.append(torch.from_numpy(pictures.decode(Path(one.path).read_bytes(), target).pixels.copy()))
            except (OSError, pictures.Unusable) as error:
                raise LeafwingError(f"--file {one.path}: {error}") from None
            names.append(Path(one.name).stem)
    if not pixels:
        raise LeafwingError(f"--file {file}: no pictures in this folder")
    return names, torch.stack(pixels)


def need_counts(**counts: int) -> None:
    """Raises LeafwingError for a count below 1, naming its option."""
    for name, value in counts.items():
        if value < 1:
            raise LeafwingError(f"--{name} {value}: must be at least 1")


def need_weights(**weights: float) -> None:
    """Raises LeafwingError for a weight that is negative or not finite, naming its option."""
    for name, value in weights.items():
        if not 0 <= value < torch.inf:
            raise LeafwingError(f"--{name} {value}: must be a finite number of at least 0")
