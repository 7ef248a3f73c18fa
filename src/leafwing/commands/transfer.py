"""Starting a training from the weights of another run, and layers that stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from leafwing import weights_file
from leafwing.config import DataConfig, Start
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.files import digest
from leafwing.quantities import count, plural
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from torch import nn

    from leafwing.game import Game, Nets


@runtime_checkable
class Restarts(Protocol):
    """A loss term whose state follows the weights, such as their mean: unless all of it fits, it begins with those that were taken."""

    def restart(self, nets: Nets) -> None: ...


def find_start(option: str, root: str | Path = ROOT) -> tuple[Run, int]:
    """The run and the checkpoint, by images shown, that `--start` names.

    Args:
        option: folder, name or number of a run, or `last`; with a checkpoint after `@` if it is not the newest.
        root: folder of the numbered run folders.

    Raises:
        LeafwingError: no such run or checkpoint.
    """
    option = os.path.expanduser(option)
    name, separator, checkpoint = option.rpartition("@")
    is_folder = os.path.isdir(option) or os.path.isdir(os.path.join(root, option))
    if is_folder or not separator or len(Path(checkpoint).parts) > 1:  # an @ in the name of a folder
        name, checkpoint = option, "last"
    run = Run.open(name, root=root)
    images = run.resolve_checkpoint(checkpoint)
    run.require_weights(images)
    return run, max(run.weights()) if images is None else images


def with_start(values: Mapping[str, Any], root: str | Path) -> dict[str, Any]:
    """Settings by name, with `--start` as a path and a number of images: `/home/ann/runs/0001-dcgan@200000`; see `find_start`."""
    if values.get("start") is None:
        return dict(values)
    run, images = find_start(str(values["start"]), root)
    return {**values, "start": f"{run.folder.resolve()}@{images}"}


def trained_on(run: Run, data: DataConfig) -> bool:
    """Whether a run, or one from whose weights it began, was trained on the held-out samples of these data, or may have been.

    The held-out samples of the same data, read in the same way, are the same up to their number; otherwise they are others.
    """
    same = all(getattr(run.data, name) == getattr(data, name) for name in ("fingerprint", "duplicates", "held_out_by"))
    if same and (run.data.held_out < data.held_out or run.history.trained_on_held_out):
        return True
    if not same and (run.data.fingerprint == data.fingerprint or run.data.source == data.source):
        return True
    start = run.history.start
    return start is not None and (Path(start.folder) / "run.json").is_file() and trained_on(Run(start.folder), data)


def start_from(game: Game, option: str, say: Callable[[str], None] = lambda text: None) -> Start:
    """Takes the weights of a run's newest checkpoint, or of another one after `@`, into a game, as far as names and shapes agree.

    A network that only one of the two games wraps as `net`, such as to add conditions, agrees with that of the other. Averaged weights
    (EMA) that the run does not have begin as a copy of the weights themselves.

    Args:
        game: the networks of a new training.
        option: a run and a checkpoint, as `find_start` takes them.
        say: receives what was taken and what was not.

    Raises:
        LeafwingError: no such run or checkpoint, or nothing in it fits.
    """

    run, images = find_start(option)
    tensors = weights_file.read(run.weights()[images])
    ours = game.tensors()
    inside = {unwrapped(key): value for key, value in tensors.items()}
    for key in ours.keys() - tensors.keys():
        name = unwrapped(key)
        if (plain := name if name in inside else name.replace(".average:", ":")) in inside:
            tensors[key] = inside[plain]
    fitting = {key: tensors[key] for key in ours if key in tensors and tensors[key].shape == ours[key].shape}
    if not any(value.dim() > 1 for value in fitting.values()):  # single biases fit by chance
        problem = f"no weight of {run.recipe} at {images:,} images fits these networks: take its recipe, options and size"
        raise InvalidOption("start", option, problem)
    restarted: list[Restarts] = []
    for module_name, module in game.modules().items():
        state = {
            key.removeprefix(f"{module_name}:"): value for key, value in fitting.items() if key.startswith(f"{module_name}:")
        }
        module.load_state_dict(state, strict=False)
        if len(state) < len(module.state_dict()) and isinstance(module, Restarts):
            restarted.append(module)
    for term in restarted:
        term.restart(game.nets)
    missing = [
        f"{key} ({'x'.join(map(str, ours[key].shape))}, there {'x'.join(map(str, tensors[key].shape))})"
        if key in tensors
        else key
        for key in ours
        if key not in fitting
    ]
    say(f"start: {len(fitting)} of {len(ours)} tensors from {run.folder} at {images:,} images")
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        say(f"not there or of another shape, so they begin anew: {shown}")
    game.pretrained = sorted({*game.pretrained, *run.pretrained})  # its critic looked through them, so these weights did
    sha256 = digest(run.weights()[images])
    return Start(str(run.folder.resolve()), images, sha256, len(fitting), len(ours), run.history.before)


def unwrapped(key: str) -> str:
    """The name of a tensor in the network that a module wraps as `net`: `G:net.out.weight` is `G:out.weight`."""
    return re.sub(r":(net\.)+", ":", key)


def start_again(game: Game, start: Start) -> None:
    """Takes the weights with which a run began once more, because it stopped before its first checkpoint.

    Raises:
        LeafwingError: they are not there any more, or are others.
    """
    again = start_from(game, f"{start.folder}@{start.images}")
    if again.sha256 != start.sha256:
        raise LeafwingError(
            f"{start.folder} has other weights at {start.images:,} images than those with which this run began"
        )


def freeze(game: Game, option: str, say: Callable[[str], None] = lambda text: None) -> None:
    """Freezes the first layers of players: `D:4`, or `D:4,G:2`. Mo, Cho & Shin 2020, arXiv:2002.10964.

    A layer is a convolution or a linear layer, with what follows it up to the next one; statistics of normalisation are still updated.

    Raises:
        InvalidOption: not such a list, no such player or one that is named twice, or not so many layers.
    """
    for name, layers in parse_freeze(option).items():
        if name not in game.players:
            raise InvalidOption("freeze", option, f"no player {name!r}{did_you_mean(name, game.players)}")
        names = freeze_layers(game.players[name].net, layers)
        if layers >= len(names):
            most = f"at most {len(names) - 1}" if len(names) > 1 else "nothing of it"
            raise InvalidOption("freeze", option, f"{name} has {plural(len(names), 'trained layer')}; {most} can be frozen")
        say(f"frozen: the layers {', '.join(names[:layers])} of {name}")


def parse_freeze(option: str) -> dict[str, int]:
    """The players of `D:4,G:2`, and how many layers of each are frozen.

    Raises:
        InvalidOption: not such a list, or a player is named twice.
    """
    layers: dict[str, int] = {}
    for part in option.split(","):
        name, separator, number = part.strip().partition(":")
        if not separator:
            raise InvalidOption("freeze", option, "must be players and numbers of layers, such as D:4 or D:4,G:2")
        if name in layers:
            raise InvalidOption("freeze", option, f"names the player {name} twice")
        layers[name] = count(number, "freeze")
    return layers


def freeze_layers(net: nn.Module, layers: int) -> list[str]:
    """Freezes the first layers of a network, in the order in which it declares them; returns the names of all that are trained."""
    from torch import nn

    names: list[str] = []
    for name, module in net.named_modules():
        is_layer = isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        if is_layer and any(weight.requires_grad for weight in module.parameters()):
            names.append(name)
        if 0 < len(names) <= layers:
            for weight in module.parameters(recurse=is_layer):
                weight.requires_grad_(False)
    return names
