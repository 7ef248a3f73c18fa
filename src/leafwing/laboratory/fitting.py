"""Gradient-based optimisation of latents, and the real images to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Attributes, Image, Label
from leafwing.game import Batch, eval_mode
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, parse_numbers
from leafwing.model import Model
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback, no_progress

CHUNK = 64
"""Number of latents optimised in parallel."""
POOL = 100
"""Number of random samples from which the best starting points are chosen."""
DRAWS = 4_096
"""Number of prior draws whose minimum and maximum bound the latents in each dimension."""
HISTORY, TRIALS, SHRINK, ARMIJO = 8, 6, 0.3, 1e-4
"""L-BFGS: history size; maximum line search steps and their shrinking factor; Armijo constant."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Latents (k, size) and the index of the target image of each (k,) -> independent losses (k,)."""
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Unconstrained variables (k, size) and their row indices (k,) -> losses (k,) and gradients (k, size)."""


@dataclass(frozen=True)
class Box:
    """The range of a prior, `low` to `high` (size,), and a reparametrisation by unconstrained variables.

    z = middle + half tanh(u / half), with unit slope at the middle, so that optimisers need no bounds.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, model: Model) -> Box:
        """The box of a model's prior."""
        prior = model.output.prior
        assert prior is not None, "tools declare that they need latents"
        latents = prior(DRAWS, "cpu", torch.Generator().manual_seed(0)).to(model.device)
        return cls(latents.amin(0), latents.amax(0))

    def unconstrain(self, latents: Tensor) -> Tensor:
        """The unconstrained variables of latents; latents are clipped to the range."""
        middle, half = self._centre_and_half_width()
        return half * torch.atanh(((latents - middle) / half).clamp(-0.9999, 0.9999))

    def constrain(self, variables: Tensor) -> Tensor:
        """The latents of unconstrained variables."""
        middle, half = self._centre_and_half_width()
        return middle + half * torch.tanh(variables / half)

    def _centre_and_half_width(self) -> tuple[Tensor, Tensor]:
        return (self.low + self.high) / 2, ((self.high - self.low) / 2).clamp(min=1e-6)


def starting_points(model: Model, loss: Loss, n: int, starts: int, seed: int) -> Tensor:
    """The `starts` latents with the lowest loss among `POOL` random ones for each of n images, best first: (n * starts, size)."""
    pool = model.latents(max(POOL, starts), seed)
    best = []
    for i in range(n):
        targets = torch.full((len(pool),), i, device=pool.device)
        with torch.no_grad():
            losses = torch.cat([loss(*part) for part in zip(pool.split(CHUNK), targets.split(CHUNK), strict=True)])
        best.append(pool[losses.argsort(stable=True)[:starts]])
    return torch.cat(best)


def fit(
    loss: Loss,
    starts: Tensor,
    targets: Tensor,
    box: Box,
    *,
    steps: int,
    method: Literal["adam", "lbfgs"] = "adam",
    rate: float = 0.1,
    report_progress: ProgressCallback = no_progress,
    what: str = "fitting latents",
) -> tuple[Tensor, Tensor]:
    """Minimises a loss over latents, separately for each starting point.

    Args:
        loss: the loss.
        starts: starting points (n, size).
        targets: index of the target image of each (n,).
        box: range of the latents.
        steps: number of steps.
        method: adam, with a learning rate that decays linearly to 0; or lbfgs, with a separate step size per row.
        rate: learning rate of adam.
        report_progress: progress callback.
        what: its description.

    Returns:
        The best latents found (n, size), and their losses (n,).
    """

    def objective(variables: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        leaf = variables.detach().requires_grad_()
        losses = loss(box.constrain(leaf), targets[rows])
        return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]

    results = []
    parts = torch.arange(len(starts), device=starts.device).split(CHUNK)
    for i, rows in enumerate(parts):

        def report(step: int, i: int = i) -> None:
            report_progress(what, i * steps + step, len(parts) * steps)

        start = box.unconstrain(starts[rows])
        results.append(
            _adam(objective, start, rows, steps, rate, report)
            if method == "adam"
            else _lbfgs(objective, start, rows, steps, report)
        )
    best, losses = (torch.cat(part) for part in zip(*results, strict=True))
    return box.constrain(best), losses


def _adam(
    objective: Objective, start: Tensor, rows: Tensor, steps: int, rate: float, report: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    x = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.Adam([x])
    best, lowest = start.clone(), torch.full((len(start),), torch.inf, device=start.device)
    for i in range(steps + 1):
        losses, x.grad = objective(x, rows)
        better = losses < lowest
        best[better], lowest[better] = x.detach()[better], losses[better]
        if i < steps:
            optimiser.param_groups[0]["lr"] = rate * (1 - i / steps)
            optimiser.step()
            report(i + 1)
    return best, lowest


def _lbfgs(
    objective: Objective, start: Tensor, rows: Tensor, steps: int, report: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Liu & Nocedal 1989, On the limited memory BFGS method: every row is a separate problem, all are solved in parallel.

    A row whose line search fails restarts from steepest descent; if that fails too, it has converged.
    """
    x = start.clone()
    losses, gradients = objective(x, rows)
    history: list[tuple[Tensor, Tensor, Tensor]] = []  # step, change of gradient, 1 / their product (0 if invalid)
    scale, restarted, converged = (
        torch.ones_like(losses),
        torch.ones_like(losses, dtype=torch.bool),
        torch.zeros_like(losses, dtype=torch.bool),
    )
    for i in range(steps):
        direction = _direction(gradients, history, scale)
        slope = (direction * gradients).sum(1)
        length = torch.where(restarted, 1 / gradients.norm(dim=1).clamp(min=1e-12), 1.0)
        active, failing = ~converged, ~converged
        x_before, gradients_before = x.clone(), gradients.clone()
        for _ in range(TRIALS):
            k = failing.nonzero()[:, 0]
            new = x_before[k] + length[k, None] * direction[k]
            new_losses, new_gradients = objective(new, rows[k])
            good = new_losses <= losses[k] + ARMIJO * length[k] * slope[k]
            x[k[good]], losses[k[good]], gradients[k[good]] = new[good], new_losses[good], new_gradients[good]
            failing[k[good]] = False
            length[k] *= SHRINK
            if not failing.any():
                break
        step, change = x - x_before, gradients - gradients_before
        product = (step * change).sum(1)
        valid = active & ~failing & (product > 1e-10)
        history = [*history[-HISTORY + 1 :], (step, change, torch.where(valid, 1 / product, 0.0))]
        scale = torch.where(valid, product / change.square().sum(1).clamp(min=1e-20), scale)
        converged = converged | (failing & restarted)
        for _, _, inverse in history:
            inverse[failing] = 0
        scale[failing], restarted = 1.0, failing
        report(steps if converged.all() else i + 1)
        if converged.all():
            break
    return x, losses


def _direction(gradients: Tensor, history: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The search direction: two-loop recursion of L-BFGS."""
    direction, alphas = gradients.clone(), []
    for step, change, inverse in reversed(history):
        alpha = inverse * (step * direction).sum(1)
        direction -= alpha[:, None] * change
        alphas.append(alpha)
    direction *= scale[:, None]
    for (step, change, inverse), alpha in zip(history, reversed(alphas), strict=True):
        direction += (alpha - inverse * (change * direction).sum(1))[:, None] * step
    return -direction


def critic_scores(model: Model, images: Tensor, conditions: Conditions) -> Tensor:
    """The critic's scores (n,) of images, with gradients; see `Model.judge`."""
    judge, nets = model.game.abilities.judge, model.game.sampling_nets
    assert judge is not None
    with eval_mode(nets):
        return judge(nets, images, Batch(conditions)).float()


def best_of_each(latents: Tensor, losses: Tensor, size: int) -> Tensor:
    """The row with the lowest loss in every group of `size` consecutive rows: (n / size, ...)."""
    best = losses.view(-1, size).argmin(1) + torch.arange(len(losses) // size, device=losses.device) * size
    return latents[best]


@dataclass(frozen=True)
class Targets:
    """Real images to fit, and their conditions.

    Args:
        names: name of each image.
        images: floats (n, channels, height, width) in [-1, 1].
        conditions: their conditions.
        left_out: number of further files of a folder, of which only the first `CHUNK` by name are used.
    """

    names: list[str]
    images: Tensor
    conditions: Batch
    left_out: int = 0


def load_targets(
    model: Model,
    data: Dataset,
    pictures: str,
    conditions: Conditions = NO_CONDITIONS,
    file: Path | None = None,
    seed: int = 0,
) -> Targets:
    """The real images selected by the user, with the conditions that the model takes.

    Args:
        model: the model.
        data: the data set.
        pictures: indices in the order of `data` shuffled with seed 0: `3,5,8` or `0:10`; indices out of range are ignored.
        conditions: conditions of all images; the others are theirs in the data.
        file: an image file or folder to use instead, read like the images of `data`; of larger ones that these are windows of, the
            centre.
        seed: random seed of attributes that are neither in the data nor specified.

    Raises:
        LeafwingError: no such images, or a condition that is neither in the data nor specified. (Attributes then follow the run's
            own data.)
    """
    left_out, rows = 0, None
    if file is None:
        numbers = [number for number in parse_numbers("pictures", pictures) if number < len(data)]
        if not numbers:
            raise InvalidOption("pictures", pictures, f"there are {len(data)} images, 0 to {len(data) - 1}")
        rows = data.epoch(0, 0)[0][numbers]
        names, pixels = [str(number) for number in numbers], data.array[rows]
    else:
        names, pixels, left_out = _read(file, data)
    values = dict(conditions) if rows is None else real_conditions(model, data, rows, conditions)
    for name in model.output.conditions:
        if name not in values and name != "attributes":
            example = f"--label {model.labels[0]}" if name == "label" else f"--set {name}=..."
            raise LeafwingError(
                f"this run generates its {model.output.field} from {name}, which these images do not have: set it, as in {example}"
            )
    return Targets(names, images_to_tensor(pixels).to(model.device), model.conditions(len(names), seed, **values), left_out)


def real_conditions(model: Model, data: Dataset, rows: np.ndarray, conditions: Conditions = NO_CONDITIONS) -> dict[str, Any]:
    """The conditions of real images as `Model.conditions` takes them: the specified ones, and those in the data.

    Args:
        model: the model.
        data: the data set; other classes or fields than those of the model's data may be in it.
        rows: indices in its columns (n,).
        conditions: conditions of all images. Specified attributes change those of the data.
    """
    values = dict(conditions)
    for name in model.output.conditions:
        kind, other = model.spec.fields[name], data.spec.fields.get(name)
        setting = conditions.get(name)
        if name not in data.columns or not (setting is None or isinstance(setting, Mapping)):
            continue
        stored = data.columns[name][rows]
        if isinstance(other, Label):
            values[name] = [other.names[index] for index in stored]  # the same class may have another index here
        elif other == kind:
            if isinstance(kind, Attributes) and setting:
                columns = kind.columns(setting)
                stored[:, list(columns)] = list(columns.values())
            values[name] = kind.to_network(torch.from_numpy(stored))
    return values


def _read(path: Path, data: Dataset) -> tuple[list[str], np.ndarray, int]:
    """The names and pixels (n, height, width, channels) of an image file, or of the first images in a folder, and how many it has
    besides these."""
    from leafwing.data import pictures, sources
    from leafwing.data.options import like

    if not path.exists():
        raise InvalidOption("file", path, "no such file or folder")
    kind = data.spec.fields["image"]
    assert isinstance(kind, Image)
    target = like(kind, data.options)
    files = [file for file in sources.list_files(path)[0] if not sources.is_side(file.name)]
    names, images = [], []
    with pictures.strict():
        for file in files[:CHUNK]:
            try:
                images.append(target.centre(pictures.decode(Path(file.path).read_bytes(), target).pixels))
            except (OSError, pictures.UnusableImageError) as error:
                raise InvalidOption("file", file.path, f"{error}") from None
            names.append(Path(file.name).stem)
    if not images:
        raise InvalidOption("file", path, "no images in this folder")
    return names, np.stack(images), len(files) - len(images)
