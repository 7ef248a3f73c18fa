"""`leafwing sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from leafwing.cli.shared import FOLDER, MACHINE, OUTPUT, Devices, Json, Root, Trust, as_json, speaks
from leafwing.errors import LeafwingError
from leafwing.progress import Screen


def command(
    run: str,
    /,
    *,
    n: Annotated[
        int, Parameter(name=["-n", "--n"], help="Number of samples; with --label all, of each class.", group=OUTPUT)
    ] = 64,
    seed: Annotated[int, Parameter(help="Random seed.", group=OUTPUT)] = 0,
    label: Annotated[str | None, Parameter(help="A class by name or index, or all: a row per class.", group=OUTPUT)] = None,
    set: Annotated[
        list[str] | None,
        Parameter(help="An attribute: smiling=1, colour=red. May be repeated.", group=OUTPUT, negative=""),
    ] = None,
    sweep: Annotated[
        str | None, Parameter(help="A named part of the latent: code0=-2:2, or category. A row a latent.", group=OUTPUT)
    ] = None,
    checkpoint: Annotated[str, Parameter(help="Checkpoint: images shown (200k), last or best.", group=FOLDER)] = "last",
    grid: Annotated[bool, Parameter(help="One picture of all (the default).", group=OUTPUT, negative="")] = False,
    folder: Annotated[bool, Parameter(help="One PNG each.", group=OUTPUT, negative="")] = False,
    npz: Annotated[bool, Parameter(help="One .npz file: samples and labels.", group=OUTPUT, negative="")] = False,
    out: Annotated[Path | None, Parameter(help="Where to. Default: into the run's samples folder.", group=OUTPUT)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Where to compute.", group=MACHINE)] = "cpu",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Parameter(
            help="bf16: nearly the same pictures, faster where the hardware computes it; auto: bf16 there.", group=MACHINE
        ),
    ] = "fp32",
    compile: Annotated[
        bool, Parameter(help="torch.compile the networks: takes long once, pays on some GPUs.", group=MACHINE, negative="")
    ] = False,
    devices: Devices = 1,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Write samples of a run: neither the data nor the cache is needed.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    kinds = [name for name, wanted in (("grid", grid), ("folder", folder), ("npz", npz)) if wanted]
    if len(kinds) > 1:
        raise LeafwingError(f"--{kinds[0]} and --{kinds[1]}: choose one")
    kind = kinds[0] if kinds else "grid"
    made = commands.sample(
        run,
        n,
        seed=seed,
        label=label,
        attributes=set or (),
        sweep=sweep,
        checkpoint=checkpoint,
        kind=kind,
        out=out,
        device=device,
        precision=precision,
        compile=compile,
        trust=trust,
        root=root,
        progress=Screen(),
    )
    if not speaks():
        return 0
    about = {"written": str(made), "kind": kind, "n": n, "seed": seed, "label": label, "set": set or [], "sweep": sweep}
    print(as_json(about) if json else made)
    return 0
