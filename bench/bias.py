"""Bias of FID and KID with few samples, on clouds whose distance is known.

    python bench/bias.py

Two Gaussian clouds of 64, 256 and 2,048 features, with the spectrum of real features (the i-th variance is 1/i): two draws of one
Gaussian (both distances are 0), and a second one that is shifted and wider. Each case is measured with growing numbers of samples,
over seeds. The true FID and KID follow from the Gaussians. Rows also count the share of confidence intervals that contain their
target: for FID the mean over seeds at that number of samples, for KID the true value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leafwing.machine import versions
from leafwing.metrics.fid import MAX_DIMENSIONS, frechet_distance, spread
from leafwing.metrics.kid import kernel_distance
from rows import argument_parser, store

FEATURES = (64, 256, 2048)
SAMPLES = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
CASES = {"same": (0.0, 1.0), "apart": (0.1, 1.1)}
"""Of the second cloud: shift in standard deviations along every axis, and scale."""


def expected_kernel(a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray) -> float:
    """E (x . y / d + 1)^3 for independent x ~ N(a, diag s) and y ~ N(b, diag t)."""
    d, dot = len(a), a @ b
    both, from_a, from_b = s @ t, a @ (t * a), b @ (s * b)
    square = dot**2 + from_a + from_b + both
    cube = dot**3 + 3 * dot * from_b + 3 * (dot * (both + from_a) + 2 * (b * s * t) @ a)
    return float(cube / d**3 + 3 * square / d**2 + 3 * dot / d + 1)


def truth(variances: np.ndarray, shift: float, scale: float) -> tuple[float, float]:
    """FID and KID of the two Gaussians themselves."""
    deviations, zero = variances**0.5, np.zeros(len(variances))
    shifted, wide = shift * deviations, scale**2 * variances
    fid = np.square(shifted).sum() + np.square((scale - 1) * deviations).sum()
    kid = expected_kernel(zero, zero, variances, variances) + expected_kernel(shifted, shifted, wide, wide)
    return float(fid), kid - 2 * expected_kernel(zero, shifted, variances, wide)


def estimate(variances: np.ndarray, shift: float, scale: float, n: int, seed: int) -> tuple[float, float, float, float]:
    """FID, its error, KID, its error, from n samples of each Gaussian. The error of FID is nan where it is not defined."""
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
    estimates = np.array([estimate(variances, shift, scale, n, seed) for seed in range(seeds)])
    mean, deviation = estimates.mean(axis=0), estimates.std(axis=0, ddof=1)
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
        "kid_held": float(np.mean(np.abs(estimates[:, 2] - kid) < 1.96 * estimates[:, 3])),
    }
    if features <= MAX_DIMENSIONS:
        row |= {"fid_error": mean[1], "fid_held": float(np.mean(np.abs(estimates[:, 0] - mean[0]) < 1.96 * estimates[:, 1]))}
    return {key: round(value, 7) if isinstance(value, float) else value for key, value in row.items()}


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES, help="numbers of features")
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES, help="numbers of samples")
    args = parser.parse_args()
    for features in args.features:
        for name in CASES:
            for n in args.samples:
                store({**case(name, features, n, args.seeds), **versions()}, args.results)


if __name__ == "__main__":
    main()
