"""Large pictures in tiles: peak memory, time, and the largest difference from the whole picture.

    python bench/large_pictures.py                      # small enough to compare with the whole
    python bench/large_pictures.py --size 3000x4000 --networks residual --width 64 --blocks 6 --no-whole

Each case runs in a process of its own, in one thread. The networks have random weights and dropout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

NETWORKS = ("unet", "residual", "enlarger")


def build(name: str, width: int, blocks: int) -> object:
    """A model of one network with random weights."""
    import torch
    from torch import nn

    from leafwing.fields import Image
    from leafwing.game import Abilities, DataSpec, Game, Output, Player
    from leafwing.model import Model
    from leafwing.networks import residual, unet

    torch.manual_seed(0)
    low = 32 if name == "enlarger" else 128
    data = DataSpec.images(128, 128, 3, input=Image(low, low, 3))
    net: nn.Module
    if name == "unet":
        net, multiple = unet.Generator(data, 3, width), 2 ** unet.halvings(data)
    elif name == "residual":
        net, multiple = residual.Generator(data, 3, width, blocks=blocks, dropout=0.5), residual.MULTIPLE
    else:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 9, 1, 4), nn.PReLU()]
        layers += [residual.Block(width, "batch") for _ in range(blocks)]
        for _ in range(2):
            layers += [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()]
        net, multiple = nn.Sequential(*layers, nn.Conv2d(width, 3, 9, 1, 4), nn.Tanh()), 1
    output = Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=multiple)
    return Model(Game({"G": Player(net)}, [], Abilities([output]), batch=1), data)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """One case, in this process."""
    import torch

    from leafwing.engine import peak_memory
    from leafwing.engine.sizes import assemble

    torch.set_num_threads(1)
    height, width = map(int, arguments.size.split("x"))
    model = build(arguments.networks, arguments.width, arguments.blocks)
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, generator=generator)
    base, start = peak_memory("cpu"), time.perf_counter()

    def translate(tile: int | str) -> torch.Tensor:
        pieces = model.translate_pieces({"input": picture}, tile=tile, stored=True)  # type: ignore[attr-defined]
        return assemble(pieces, 1, model.kind(model.output).to_stored, 1)  # type: ignore[attr-defined]

    tiles = translate(arguments.tile)
    row = {
        "network": arguments.networks,
        "width": arguments.width,
        "blocks": arguments.blocks,
        "size": arguments.size,
        "tile": arguments.tile,
        "seconds": round(time.perf_counter() - start, 1),
        "base_mb": base >> 20,
        "peak_mb": peak_memory("cpu") >> 20,
    }
    if arguments.whole:
        start = time.perf_counter()
        whole = translate("whole")
        row |= {"whole_seconds": round(time.perf_counter() - start, 1), "whole_peak_mb": peak_memory("cpu") >> 20}
        row["levels"] = int((tiles.int() - whole.int()).abs().max())
    return row


def main() -> None:
    """Runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="networks to measure, separated by commas")
    parser.add_argument("--size", default="512x640", help="height x width")
    parser.add_argument("--tile", default="256", help="side of the tiles in pixels, or auto")
    parser.add_argument("--width", type=int, default=32, help="width of the networks")
    parser.add_argument("--blocks", type=int, default=3, help="number of residual blocks")
    parser.add_argument(
        "--whole", action=argparse.BooleanOptionalAction, default=True, help="also compute the whole picture at once"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return
    words = [f"--{name}={getattr(arguments, name)}" for name in ("size", "tile", "width", "blocks")]
    words.append("--whole" if arguments.whole else "--no-whole")
    for name in arguments.networks.split(","):
        command = [sys.executable, __file__, "--child", f"--networks={name}", *words]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
