"""`leafwing evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from leafwing.cli.shared import (
    DATA,
    FOLDER,
    OUTPUT,
    Devices,
    Json,
    Root,
    Trust,
    as_json,
    explicit,
    flag,
    is_main_process,
    option,
    with_settings,
)
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import ConsoleReporter

METRICS = Group("Metrics", sort_key=2)


@with_settings(
    "size",
    "device",
    "precision",
    size="Size at which generated pictures are compared, in pixels. Default: chosen from the real images.",
    device="Device to compute on. Default: cpu.",
    precision="Precision in which samples are generated. Default: fp32.",
)
def command(
    run: Annotated[
        str,
        Parameter(
            help="The run: its folder, its name or number under --root, or 'last'. Or a folder or an archive of generated pictures, "
            "with --data.",
            show_default=False,
        ),
    ],
    /,
    *,
    data: Annotated[
        str | None,
        option("Real images to compare with. Default: the held-out images, or the training set if there are none.", DATA),
    ] = None,
    metrics: Annotated[
        str | None,
        option(
            "Metrics, separated by commas. Default: fid,kid,prdc,memorisation; leaks for augmented runs; reconstruction, structure or "
            "cycle for images from images; modes for data with known modes.",
            METRICS,
        ),
    ] = None,
    n: Annotated[
        str | None,
        Parameter(
            name=("--n", "-n"),
            help="Number of samples. Default: the number of real images, at most 5,000, or 1,000 with lite0 and inception.",
            group=METRICS,
        ),
    ] = None,
    output: Annotated[
        str | None, option("The field to generate and compare, if a run has several. Default: the main one.", METRICS)
    ] = None,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last, best or all.", FOLDER)] = "last",
    features: Annotated[
        str | None,
        option(
            "Feature network: lite0 (a classifier of photographs), own (a small network trained on your data), pixels or inception. "
            "Default: lite0 for images in colour from 32 px on if it is installed, else own.",
            METRICS,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("Weights file of lite0 or inception. Default: of the installed package, or downloaded once.", METRICS),
    ] = None,
    circular: Annotated[
        bool,
        flag(
            "Allow --features even if the run was trained with a network of that family; the numbers are marked as circular.",
            METRICS,
        ),
    ] = False,
    seed: Annotated[int, option("Random seed of the samples and of the choice of real images.", METRICS)] = 0,
    recompute: Annotated[bool, flag("Recompute numbers that are already in metrics.jsonl.", METRICS)] = False,
    out: Annotated[
        Path | None, option("A JSON file for the numbers of generated pictures; those of a run are in its folder.", OUTPUT)
    ] = None,
    verbose: Annotated[
        bool, flag("Print all numbers, and the conditions under which they are comparable, with their fingerprints.", OUTPUT)
    ] = False,
    devices: Devices = 1,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **settings: Any,
) -> int:
    """Compute metrics of a run and record the protocol of every number."""
    size, machine = settings.pop("size", None), settings
    from leafwing.commands import generated
    from leafwing.commands.evaluate import evaluate
    from leafwing.commands.figures import as_document, as_text
    from leafwing.commands.selection import are_pictures

    if are_pictures(run, root):
        if data is None:
            raise LeafwingError(
                f"{run} is not a run folder, because it has no run.json. To evaluate the pictures in it, add real ones: --data SOURCE"
            )
        of_runs = {
            "output": output,
            "recompute": recompute or None,
            "trust": trust or None,
            "circular": circular or None,
            "precision": machine.get("precision"),
        }
        of_runs |= {"checkpoint": None if checkpoint == "last" else checkpoint}
        for name, value in explicit(of_runs).items():
            raise InvalidOption(name, value, f"this option is for runs, and {run} is a source of images")
        rows = generated.evaluate_pictures(
            run, data, size=size, metrics=metrics, n=n, features=features, weights=weights, seed=seed, out=out,
            device=machine.get("device") or "cpu", progress=ConsoleReporter(),
        )  # fmt: skip
        if is_main_process():
            print(as_json(generated.as_document(rows)) if json else as_text(rows, verbose, metrics))
        return 0
    for name, value in explicit({"size": size, "out": out}).items():
        raise InvalidOption(
            name, value, "only for pictures: a run has its size, and its numbers are stored in metrics.jsonl"
        )
    rows = evaluate(
        run,
        data=data,
        metrics=metrics,
        n=n,
        output=output,
        checkpoint=checkpoint,
        features=features,
        weights=weights,
        circular=circular,
        seed=seed,
        recompute=recompute,
        trust=trust,
        root=root,
        progress=ConsoleReporter(),
        **explicit(machine),
    )
    if is_main_process():
        print(as_json(as_document(rows)) if json else as_text(rows, verbose, metrics))
    return 0
