"""`leafwing sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from leafwing.cli.shared import (
    FOLDER,
    MACHINE,
    OUTPUT,
    Conditions,
    Devices,
    Json,
    OutputField,
    Root,
    RunName,
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


@with_settings(
    "device",
    "precision",
    device="Device to compute on. Default: cpu.",
    precision="fp32, bf16 (slightly different images, faster on some devices) or auto (the faster). Default: fp32.",
)
def command(
    run: RunName,
    /,
    *,
    n: Annotated[
        int | None,
        Parameter(
            name=("--n", "-n"),
            help="Number of samples; with --label all, of each class. Default: 64, or 10 of each class.",
            group=OUTPUT,
        ),
    ] = None,
    seed: Annotated[int, option("Random seed.", OUTPUT)] = 0,
    seeds: Annotated[
        str | None,
        option(
            "One sample for each of these seeds, 1-50 or 3,5,8, each a file that is named by its seed, in a folder that may exist; "
            "with --grid one image, with the seed below each sample.",
            OUTPUT,
        ),
    ] = None,
    label: Annotated[
        str | None,
        option(
            "Class by name or index, or all for one row per class. Default: a grid has a row for each of the first 20 classes.",
            OUTPUT,
        ),
    ] = None,
    set: Conditions = None,
    output: OutputField = None,
    sweep: Annotated[
        str | None,
        option(
            "Vary one latent code: code0=-2:2 for a continuous code, category for a categorical one; each row uses one latent.",
            OUTPUT,
        ),
    ] = None,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)] = "last",
    grid: Annotated[bool, flag("One image with a grid of all samples (the default).", OUTPUT)] = False,
    folder: Annotated[bool, flag("One PNG file per sample; of clips, an animation of each.", OUTPUT)] = False,
    scale: Annotated[
        int | None,
        option(
            "Enlarge by this whole factor: smoothly from 32 pixels a side on, as suits photographs; smaller or transparent "
            "samples and masks pixel by pixel, so that each pixel can be seen. Default: on a grid, as far as a sample fits into "
            "128 pixels; single files and arrays have their true size.",
            OUTPUT,
        ),
    ] = None,
    animation: Annotated[
        Literal["webp", "gif", "mp4"], option("File type of clips in a folder: webp (lossless), gif or mp4.", OUTPUT)
    ] = "webp",
    npz: Annotated[bool, flag("One .npz file with samples and their conditions.", OUTPUT)] = False,
    out: Annotated[Path | None, option("Output path. Default: a new file in the run's folder outputs.", OUTPUT)] = None,
    compile: Annotated[
        bool, flag("Compile the networks with torch.compile: slow to start, worthwhile on some GPUs.", MACHINE)
    ] = False,
    devices: Devices = 1,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **machine: Any,
) -> int:
    """Generate samples from a run; neither the data nor the cache is needed."""
    from leafwing import commands

    formats = [name for name, selected in (("grid", grid), ("folder", folder), ("npz", npz)) if selected]
    if len(formats) > 1:
        raise LeafwingError(f"--{formats[0]} and --{formats[1]} are mutually exclusive")
    if seeds is not None:
        if npz or sweep or compile or n is not None or seed:
            raise InvalidOption(
                "seeds",
                seeds,
                "only with --label, --set, --output, --checkpoint, --grid, --folder, --scale, --animation, --out and --device",
            )
        format = "grid" if grid else "folder"
        written = commands.sample_seeds(
            run, seeds, label=label, conditions=set or (), output=output, checkpoint=checkpoint,
            format=format, scale=scale, animation=animation, out=out, trust=trust, root=root,
            progress=ConsoleReporter(), **explicit(machine),
        )  # fmt: skip
        about = {"written": str(written), "format": format, "seeds": seeds, "label": label, "set": set or []}
        print(as_json(about) if json else written)
        return 0
    format = formats[0] if formats else "grid"
    path = commands.sample(
        run,
        n,
        seed=seed,
        label=label,
        conditions=set or (),
        output=output,
        sweep=sweep,
        checkpoint=checkpoint,
        format=format,
        scale=scale,
        animation=animation,
        out=out,
        compile=compile,
        trust=trust,
        root=root,
        progress=ConsoleReporter(),
        **explicit(machine),
    )
    if not is_main_process():
        return 0
    options = {"format": format, "n": n, "seed": seed, "label": label, "set": set or [], "output": output, "sweep": sweep}
    print(as_json({"written": str(path), **options}) if json else path)
    return 0
