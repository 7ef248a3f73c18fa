"""What figures do not say: the caveats of rows of `evaluate`, for all that show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leafwing.data.split import MIN_SIZE

FLATTERED, MARK = ("precision", "density"), " *"
"""The measures of pictures in colour that are high in the features `own` also where nothing can be recognised, and what marks them."""
FLATTERY = (
    f"{MARK.strip()} own judges texture more than shape: precision and density are high for shapeless pictures too. Recall, FID and "
    "KID tell more; look at the samples"
)
MIN_FID_SAMPLES, MIN_SCORED = 1_000, 1_000
"""With fewer samples or real images, FID is noticeably biased; with fewer samples, the inception score."""


NEAR_ZERO = 0.05
LOW_RECALL = (
    "A recall near 0 in the features lite0 says little: all small generators that were tried have it, varied ones too. Compare it "
    "between runs only"
)
"""What is said about a recall by lite0 below `NEAR_ZERO`."""


def is_low_recall(row: Mapping[str, Any]) -> bool:
    """Whether a value is a recall that says little, because the features `lite0` see every sample outside of the real images."""
    is_of_lite0 = row["metric"] == "recall" and row.get("protocol", {}).get("features") == "lite0"
    return is_of_lite0 and row["value"] is not None and row["value"] < NEAR_ZERO


def is_flattered(row: Mapping[str, Any]) -> bool:
    """Whether a value is marked, because the features `own` praise shapeless pictures in colour; see `FLATTERED`."""
    protocol = row.get("protocol", {})
    has_colours = str(protocol.get("shape", "")).endswith(("x3", "x4"))
    return row["metric"] in FLATTERED and protocol.get("features") == "own" and has_colours


def of_rows(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The caveats of these rows, each once."""
    texts: dict[str, None] = {}
    for row in rows:
        texts |= dict.fromkeys([FLATTERY] * is_flattered(row) + [LOW_RECALL] * is_low_recall(row))
        texts |= dict.fromkeys(of_protocol(row.get("protocol", {}), [row["metric"]]))
    return list(texts)


def of_protocol(protocol: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The caveats of a protocol.

    Args:
        protocol: see `protocol.Protocol.as_dict`.
        names: metrics or measures.
    """
    n = min(protocol.get("n_real", 0), protocol.get("n_fake", 0))
    texts = []
    # Memorisation compares with the training images in any case.
    nothing_held_out = protocol.get("split") == "train" and not protocol.get("held_out")
    if nothing_held_out and protocol["shape"] != "points":
        few = f", or a tenth of the images if there are fewer than {MIN_SIZE}" if protocol["n_real"] < MIN_SIZE else ""
        texts.append(
            "compared with the training images, because nothing was held out: a model that copies them looks perfect. Trained with "
            f"--hold-out auto{few}, some are kept for evaluation"
        )
    if protocol.get("split") == "all":
        texts.append(
            f"compared with all images of the run, of which {protocol['held_out']:,} were held out of training: a model that copies "
            "the others looks nearly perfect. Without --data, only the held-out ones are used"
        )
    if 0 < n < MIN_FID_SAMPLES and "fid" in names:
        what = "real images" if n < protocol["n_fake"] else "samples"
        texts.append(
            f"with only {n:,} {what}, FID is biased upwards: compare it only under the same protocol, and use KID, which is unbiased"
        )
    if 0 < (n := protocol.get("n_fake", 0)) < MIN_SCORED and "inception_score" in names:
        texts.append(f"with only {n:,} samples, the inception score is too low: compare it only under the same protocol")
    return texts
