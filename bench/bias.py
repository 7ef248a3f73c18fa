"""How far FID and KID are off with few samples, on clouds whose distance is known.

    python bench/bias.py

Two Gaussian clouds with a spectrum as features have it (the i-th variance is 1/i), of 64, 256 and 2,048 features: two draws of one
Gaussian (both distances are 0), and one that is moved and wider. Each is measured with growing numbers of samples on each side, over
seeds. What FID and KID should be is worked out from the Gaussians. The share of intervals that hold what they should is counted: for
FID the mean over seeds at that number of samples, for KID the truth. One JSON line a case goes to --results.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from leafwing.metrics.fid import MAX_DIMENSIONS, frechet_distance, spread
from leafwing.metrics.kid import kernel_distance
from leafwing.runs import versions
from rows import keep

FEATURES = (64, 256, 2048)
SAMPLES = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
CASES = {"same": (0.0, 1.0), "apart": (0.1, 1.1)}
"""By how many standard deviations the second cloud is moved in every direction, and how many times as wide it is."""


def expected(a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray) -> float:
    """E (x . y / d + 1)^3 for independent x ~ N(a, diag s) and y ~ N(b, diag t)."""
    d, one = len(a), a @ b
    both, from_a, from_b = s @ t, a @ (t * a), b @ (s * b)
    two = one**2 + from_a + from_b + both
    three = one**3 + 3 * one * from_b + 3 * (one * (both + from_a) + 2 * (b * s * t) @ a)
    return float(three / d**3 + 3 * two / d**2 + 3 * one / d + 1)


def truth(variances: np.ndarray, shift: float, scale: float) -> tuple[float, float]:
    """FID and KID of the two Gaussians themselves."""
    deviations, zero = variances**0.5, np.zeros(len(variances))
    moved, wide = shift * deviations, scale**2 * variances
    fid = np.square(moved).sum() + np.square((scale - 1) * deviations).sum()
    kid = expected(zero, zero, variances, variances) + expected(moved, moved, wide, wide)
    return float(fid), kid - 2 * expected(zero, moved, variances, wide)


def measured(variances: np.ndarray, shift: float, scale: float, n: int, seed: int) -> tuple[float, float, float, float]:
    """FID and its error, KID and its error, of n samples of each Gaussian. The error of FID is nan where it has none."""
    random = np.random.default_rng((seed, n, len(variances)))
    deviations = variances**0.5
    real, fake = (random.standard_normal((n, len(variances)), dtype=np.float32) * deviations for _ in range(2))
    fake = scale * fake + shift * deviations
    fid = frechet_distance(real, fake)
    error = spread(real, fake, seed) if len(variances) <= MAX_DIMENSIONS else float("nan")
    return fid, error, *kernel_distance(real, fake)


def case(name: str, features: int, n: int, seeds: int) -> dict[str, Any]:
    """The row of one case."""
    shift, scale = CASES[name]
    variances = 1 / np.arange(1.0, features + 1)
    fid, kid = truth(variances, shift, scale)
    found = np.array([measured(variances, shift, scale, n, seed) for seed in range(seeds)])
    mean, deviation = found.mean(axis=0), found.std(axis=0, ddof=1)
    row: dict[str, Any] = {
        "bench": "bias",
        "case": f"{name}, {features} features",
        "samples": n,
        "seeds": seeds,
        "fid_truth": fid,
        "fid_mean": mean[0],
        "fid_deviation": deviation[0],
        "kid_truth": kid,
        "kid_mean": mean[2],
        "kid_deviation": deviation[2],
        "kid_error": mean[3],
        "kid_held": float(np.mean(np.abs(found[:, 2] - kid) < 1.96 * found[:, 3])),
    }
    if features <= MAX_DIMENSIONS:
        row |= {"fid_error": mean[1], "fid_held": float(np.mean(np.abs(found[:, 0] - mean[0]) < 1.96 * found[:, 1]))}
    return {key: round(value, 7) if isinstance(value, float) else value for key, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "bias.jsonl")
    given = parser.parse_args()
    for features in given.features:
        for name in CASES:
            for n in given.samples:
                keep({**case(name, features, n, given.seeds), **versions()}, given.results)


if __name__ == "__main__":
    main()
