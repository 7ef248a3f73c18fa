"""Do f-GAN's divergences fit a mixture in the different ways that theory predicts?

    python bench/divergences.py --seeds 3

A generator that can only shift and scale a Gaussian, mu + sigma z, is trained on a one-dimensional mixture of two Gaussians, with
each divergence of `parts.objectives.DIVERGENCES` (the bound itself, section 3.1 of the paper). The best Gaussian depends on the
divergence, and is also computed directly, by minimising the divergence on a grid of 20,001 points. A row holds both pairs of mu and
sigma, and the divergence at the trained ones relative to the minimum. The last column of the table is the share of the generator's
mass to the right of the valley between the two Gaussians.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import ndtr
from torch import Tensor, nn

from leafwing.engine import Engine, choose
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Player
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.networks import mlp
from leafwing.parts import priors
from leafwing.parts.objectives import DIVERGENCES, variational
from leafwing.parts.plays import duel, generating, sampling
from rows import argument_parser, store

SHARES, MEANS, DEVIATIONS = np.array([0.7, 0.3]), np.array([-1.0, 2.0]), np.array([0.6, 0.6])
VALLEY = 0.7
"""The point of least density between the two Gaussians."""
GRID = np.linspace(-12, 12, 20_001)
BATCH, N_CRITIC = 512, 2
RESULTS = Path(__file__).parent / "results" / "divergences.jsonl"


def density(mean: Any, deviation: Any) -> np.ndarray:
    """Density of Gaussians at the points of the grid: (points, ...)."""
    return np.exp(-0.5 * ((GRID[:, None] - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))


REAL = density(MEANS, DEVIATIONS) @ SHARES
EXACT: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "total_variation": lambda p, q: np.abs(p - q) / 2,
    "kl": lambda p, q: p * np.log(p / q),
    "reverse_kl": lambda p, q: q * np.log(q / p),
    "pearson": lambda p, q: (p - q) ** 2 / q,
    "squared_hellinger": lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
    "jensen_shannon": lambda p, q: p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)),
}
"""Integrands of E_q f(p / q); p is the data's density, q the generator's. For Pearson's, f(u) = (u - 1)^2 and its f* give
(p - q)^2 / q; table 1 of the paper has p in the denominator."""


def divergence(name: str, mean: float, deviation: float) -> float:
    """The divergence between the mixture and N(mean, deviation^2)."""
    p, q = (values + 1e-300 for values in (REAL, density(np.array([mean]), deviation)[:, 0]))
    return float(np.trapezoid(EXACT[name](p, q), GRID))


def best(name: str) -> tuple[float, float, float]:
    """The Gaussian with the least divergence: mean, deviation, divergence."""
    starts = [(mean, deviation) for mean in (-1.0, 0.0, 2.0) for deviation in (0.6, 1.5)]
    result = min(
        (minimize(lambda v: divergence(name, v[0], np.exp(v[1])), (m, np.log(d)), method="Nelder-Mead") for m, d in starts),
        key=lambda candidate: candidate.fun,
    )
    return float(result.x[0]), float(np.exp(result.x[1])), float(result.fun)


class Gaussian(nn.Module):
    """mu + sigma z."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_deviation = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        return self.mean + self.log_deviation.exp() * z


def batches(images: int, n: int) -> Batch:
    """Points of the mixture, as a pure function of the position."""
    generator = np.random.default_rng(images)
    component = generator.choice(2, n, p=SHARES)
    points = MEANS[component] + DEVIATIONS[component] * generator.standard_normal(n)
    return Batch(image=torch.from_numpy(points[:, None].astype(np.float32)))


def fit(name: str, seed: int, rounds: int) -> tuple[float, float]:
    """Train a game: mean and deviation, averaged over its last quarter, because the players circle around the solution."""
    torch.manual_seed(seed)
    line, z = DataSpec.vectors(1), priors.by_name("normal", 1)
    lr: Callable[[Clock], float] = lambda clock: 2e-3 * (1 - 0.95 * clock.progress)  # noqa: E731
    game = Game(
        players={
            "G": Player(Gaussian(), Adam(lr, (0.0, 0.99))),
            "D": Player(mlp.Critic(line, (64, 64)), Adam(lr, (0.0, 0.99))),
        },
        turns=duel(sampling(z), variational(name, saturating=True), n_critic=N_CRITIC),
        abilities=generating(z),
        batch=BATCH,
    )
    images = rounds * BATCH * N_CRITIC
    training = Training(game, batches, Engine(game, choose("cpu", "fp32", 1)), images=images, batch=BATCH)
    parameters = []
    for tick in training.ticks(10 * BATCH * N_CRITIC):
        if tick.clock.progress > 0.75:
            parameters.append([game.nets.G.mean.item(), game.nets.G.log_deviation.exp().item()])
    mean, deviation = np.mean(parameters, axis=0)
    return float(mean), float(deviation)


def table(results: Path) -> None:
    """Print the rows as a Markdown table."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    print(
        "| divergence | theory: mu, sigma | learnt: mu, sigma, per seed | divergence over its minimum | right of the valley |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name in DIVERGENCES:
        newest = list({row["seed"]: row for row in rows if row["divergence"] == name}.values())
        if not newest:
            continue
        learnt = "; ".join(f"{row['mean']:.2f}, {row['deviation']:.2f}" for row in newest)
        over = ", ".join(f"{row['value'] / row['least']:.2f}" for row in newest)
        right = ", ".join(f"{row['right_of_valley']:.0%}" for row in newest)
        print(f"| {name} | {newest[0]['best_mean']:.2f}, {newest[0]['best_deviation']:.2f} | {learnt} | {over} | {right} |")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--rounds", type=int, default=4_000, help="number of rounds")
    parser.add_argument("--show", action="store_true", help="only print the table of existing rows")
    args = parser.parse_args()
    for name in () if args.show else DIVERGENCES:
        best_mean, best_deviation, least = best(name)
        for seed in range(args.seeds):
            started = time.perf_counter()
            mean, deviation = fit(name, seed, args.rounds)
            row = {
                "bench": "divergences",
                "divergence": name,
                "seed": seed,
                "rounds": args.rounds,
                "mean": round(mean, 3),
                "deviation": round(deviation, 3),
                "best_mean": round(best_mean, 3),
                "best_deviation": round(best_deviation, 3),
                "value": round(divergence(name, mean, deviation), 4),
                "least": round(least, 4),
                "right_of_valley": round(float(1 - ndtr((VALLEY - mean) / deviation)), 3),
                "seconds": round(time.perf_counter() - started, 1),
            }
            store({**row, **versions()}, args.results)
    table(args.results)


if __name__ == "__main__":
    main()
