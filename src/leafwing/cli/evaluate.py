"""`leafwing evaluate` as it is typed: its options, turned into one call of `evaluate`. `cli` loads this when it is first asked for."""

from __future__ import annotations

import json as format_json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from leafwing.commands.evaluate import describe_numbers, numbers
from leafwing.commands.evaluate import evaluate as run_evaluation
from leafwing.progress import Screen
from leafwing.runs import ROOT

PICTURES, NUMBERS, FOLDER, MACHINE, OUTPUT = (
    Group(name, sort_key=key) for key, name in enumerate(("Pictures", "Numbers", "Run folder", "Machine", "Output"), 1)
)


def about(text: str, group: Group) -> Parameter:
    """What --help says of an option, and where."""
    return Parameter(help=text, group=group, negative="")


def command(
    run: str,
    /,
    *,
    data: Annotated[
        str | None, about("Real pictures to compare with. Default: the held-out ones, else the training set.", PICTURES)
    ] = None,
    metrics: Annotated[
        str | None,
        about("Metrics, separated by commas. Default: fid,kid,prdc,memorisation, and modes where they are known.", NUMBERS),
    ] = None,
    n: Annotated[
        str | None,
        Parameter(
            name=["-n", "--n"], help="Number of samples. Default: as many as real pictures, at most 5,000.", group=NUMBERS
        ),
    ] = None,
    checkpoint: Annotated[str, about("Checkpoint: images shown (200k), last, best or all.", FOLDER)] = "last",
    features: Annotated[str | None, about("Feature network: own, pixels or inception. Default: own.", NUMBERS)] = None,
    weights: Annotated[Path | None, about("Weights file of inception. Default: downloaded once.", NUMBERS)] = None,
    seed: Annotated[int, about("Random seed of the samples and of the choice of real pictures.", NUMBERS)] = 0,
    again: Annotated[bool, about("Recompute numbers that are already in metrics.jsonl.", NUMBERS)] = False,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], about("Device to compute on.", MACHINE)] = "cpu",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], about("Precision in which samples are generated.", MACHINE)
    ] = "fp32",
    devices: Annotated[int, about("Number of processes that share the work, each with its own device.", MACHINE)] = 1,
    trust: Annotated[bool, about("Execute the run's recipe.py although it is not an installed recipe.", FOLDER)] = False,
    root: Annotated[Path, about("Folder that holds numbered run folders.", FOLDER)] = Path(ROOT),
    json: Annotated[bool, about("One JSON document on standard output and nothing else there.", OUTPUT)] = False,
) -> int:
    """Measure what a run generates, with the protocol of every number.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    how: dict[str, Any] = {"device": device, "precision": precision, "again": again, "trust": trust, "root": root}
    rows = run_evaluation(
        run,
        data=data,
        metrics=metrics,
        n=n,
        checkpoint=checkpoint,
        features=features,
        weights=weights,
        seed=seed,
        **how,
        progress=Screen(),
    )
    if os.environ.get("RANK", "0") in ("", "0"):  # of several processes the first one prints
        print(format_json.dumps(numbers(rows), indent=2, ensure_ascii=False) if json else describe_numbers(rows))
    return 0
