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
    label: Annotated[
        str | None, Parameter(help="Class by name or index, or all for one row per class.", group=OUTPUT)
    ] = None,
    set: Annotated[
        list[str] | None,
        Parameter(help="Set an attribute: smiling=1, colour=red. Repeatable.", group=OUTPUT, negative=""),
    ] = None,
    sweep: Annotated[
        str | None,
        Parameter(help="Sweep a named part of the latent: code0=-2:2, or category. One row per latent.", group=OUTPUT),
    ] = None,
    checkpoint: Annotated[str, Parameter(help="Checkpoint: images shown (200k), last or best.", group=FOLDER)] = "last",
    grid: Annotated[
        bool, Parameter(help="One grid picture of all samples (the default).", group=OUTPUT, negative="")
    ] = False,
    folder: Annotated[bool, Parameter(help="One PNG file per sample.", group=OUTPUT, negative="")] = False,
    npz: Annotated[bool, Parameter(help="One .npz file with samples and labels.", group=OUTPUT, negative="")] = False,
    out: Annotated[Path | None, Parameter(help="Output path. Default: in the run's samples folder.", group=OUTPUT)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Device to compute on.", group=MACHINE)] = "cpu",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Parameter(
            help="bf16 gives nearly the same pictures faster where the hardware computes it; auto: bf16 there.",
            group=MACHINE,
        ),
    ] = "fp32",
    compile: Annotated[
        bool,
        Parameter(
            help="Compile the networks with torch.compile: takes long once, pays on some GPUs.", group=MACHINE, negative=""
        ),
    ] = False,
    devices: Devices = 1,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Generate samples from a run; neither the data nor the cache is needed.

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
