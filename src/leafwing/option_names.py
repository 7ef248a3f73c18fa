"""What people write who know other programs: their names of options, and what does the same here, for messages about unknown options.

They are looked up when an option is refused, in a command line or in a call, so nothing in them is another way to write an option.
So are the options of the command line that are written differently in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from leafwing.errors import LeafwingError, did_you_mean
from leafwing.quantities import ungrouped

OPTIONS = {
    "batch-size batchsize bs b minibatch minibatch-size mini-batch": "batch",
    "image-size img-size imsize imgsize resolution res dim height side load-size crop-size": "size",
    "learning-rate lr": "lr-g lr-d lr-end",
    "gpu gpu-id gpu-ids cuda use-cuda accelerator": "device",
    "gpus num-gpus n-gpus ngpu ngpus nproc nproc-per-node world-size": "devices",
    "cpus num-threads num-cpus": "threads",
    "o output outdir out-dir output-dir save-dir save-path result-dir results log-dir logdir dest": "out root",
    "pretrained finetune fine-tune init-from weights": "start",
    "model arch architecture gan gan-type method algorithm network net": "recipe recipes",
    "amp fp16 half mixed-precision mixed bf16 fp32 dtype": "precision",
    "z-dim zdim nz z latent-dim latent-size noise-dim noise": "latent",
    "ngf nf ch channel-base base-channels hidden hidden-dim hidden-size num-filters filters": "width",
    "ndf": "width-d width",
    "betas beta": "beta1 beta2",
    "gp lambda-gp lambda gp-weight": "penalty",
    "critic-iters n-dis d-steps num-d-steps critics": "n-critic",
    "flip hflip horizontal-flip x-flip xflip random-flip": "mirror",
    "aug augmentation data-augmentation ada diffaug diffaugment": "augment",
    "save-freq save-interval checkpoint-every checkpoint-interval save-steps ckpt-freq ckpt-every snap save-epoch-freq": "save-every",
    "sample-interval sample-every sample-freq image-interval eval-interval display-freq": "grid-every",
    "log-interval log-freq log-steps print-freq": "log-every",
    "max-time hours minutes max-hours time-limit duration": "time seconds",
    "val-split test-split validation-split holdout val-size test-size": "hold-out",
    "early-stopping early-stop": "stop-on",
    "ema-decay ema-beta use-ema": "ema",
    "config cfg like": "from replay",
    "tb wandb use-wandb": "tensorboard",
    "channels-in nc n-channels num-channels color colour rgb grayscale greyscale gray grey": "channels",
    "random-seed manual-seed random-state": "seed",
    "num-samples n-samples num-images num-imgs samples count number num nsamples": "n",
    "class classes category y": "label",
    "condition cond attribute attributes prompt caption": "set",
    "real real-data reference dataset data-dir data-root dataroot data-path dataset-path": "data",
    "ckpt snapshot load load-epoch which-epoch": "checkpoint",
    "overwrite force": "recompute",
    "fps length frames": "seconds",
    "algorithms models gans": "recipes",
    "max-jobs parallel workers num-workers n-workers": "jobs",
    "dry plan": "dry-run",
}
"""Names of options, with - for _, and the options of leafwing that do the same, as far as a command has them."""
TRAINERS, USERS = "train resume compare", "sample walk reel resume evaluate score translate explore"
"""Commands that train, and commands whose first argument is a run."""
NO_OPTION = {
    "workers num-workers n-workers": {
        TRAINERS: "images are decoded once into a cache by all cores; --threads limits the CPU threads of training"
    },
    "data dataset data-dir data-root dataroot data-path dataset-path path train-dir input-dir source folder dir images-dir": {
        "train doctor show prepare compare": "the data are the first argument, without an option",
        "score translate": "the pictures are the second argument, without an option",
    },
    "name run-name exp-name experiment exp": {"train": "a run is named by its folder: --out runs/NAME"},
    "resume continue resume-from ckpt checkpoint load snapshot": {
        "train": "`leafwing resume RUN` continues a run; --start RUN begins a new one with the weights of another; --or-resume with "
        "--out FOLDER continues that run if it exists"
    },
    "run network pkl": {USERS: "the run is the first argument, without an option: its folder, name or number, or 'last'"},
    "class cond conditional class-cond num-classes n-classes y-dim": {
        "train compare": "the recipe decides whether classes are used, and `leafwing recipes` says which do; the classes are those of "
        "the folders or of a list"
    },
    "overwrite force yes": {
        "train sample walk reel score translate explore show prepare": "nothing is overwritten: choose another output"
    },
    "lr-decay lr-scheduler scheduler lr-policy warmup": {
        TRAINERS: "learning rates are constant in most recipes; those with --lr-end lower them"
    },
    "loss gan-loss gan-mode criterion objective": {
        TRAINERS: "the recipe decides on the loss: `leafwing recipes` lists them"
    },
    "optimizer optim": {TRAINERS: "the recipe decides on the optimiser"},
    "cache cache-dir": {
        "train resume compare doctor show evaluate explore": "the environment variable LEAFWING_CACHE is the folder of decoded images"
    },
    "transparent transparency alpha alpha-channel rgba keep-alpha": {
        "train compare doctor show": "--channels 4 keeps the transparency of images, and samples are transparent then",
        "sample walk reel": "samples are transparent if the run was trained with --channels 4",
    },
    "walk film video interpolate interpolation": {
        "sample": "`leafwing walk RUN --seeds 3,5,8` films a walk between samples"
    },
    "size image-size img-size resolution width height": {
        "sample": "samples have the size of the training; --scale 4 makes them four times as large"
    },
    "truncation trunc truncation-psi psi": {
        "train sample walk evaluate explore": "`leafwing explore RUN truncate` trades diversity for quality"
    },
}
"""Names of options, and what is said instead by these commands, because no option does this."""
LENGTHS = {
    "e epochs n-epochs num-epochs max-epochs epoch nb-epochs": "epochs",
    "steps num-steps max-steps iterations iters n-iters num-iters num-iterations niter max-iter max-iters n-iter "
    "total-steps train-steps": "steps",
    "kimg total-kimg": "kimg",
}
"""Names of options for the length of a training, and their unit."""
IN_PYTHON = {
    "set": {
        "sample sample_seeds walk translate score explore": 'write conditions={"NAME": value}',
        "compare": 'write options={"NAME": value}',
    },
    "grid": {"sample sample_seeds": 'write format="grid"'},
    "folder": {"sample sample_seeds": 'write format="folder"'},
    "npz": {"sample": 'write format="npz"'},
    "seeds": {"sample": 'write leafwing.sample_seeds(run, "1-50")'},
    "from": {"train": "write replay=RUN"},
    "dry_run": {"train": "leafwing.forecast(...) returns the plan"},
    "or_resume": {"train": "write leafwing.train_or_resume(...)"},
    "devices": {"train resume sample evaluate": "only the command line has it: --devices N"},
    "size": {"evaluate": "it is for pictures: leafwing.evaluate_pictures(pictures, source)"},
    "out": {
        "evaluate": "it is for pictures: leafwing.evaluate_pictures(pictures, source); the rows of a run are in its metrics.jsonl"
    },
    "verbose": {
        "train": "leafwing.forecast(...) returns all choices, with the reason for each as `why`",
        "evaluate": "all numbers are in the rows that it returns",
    },
    "json": {
        "evaluate evaluate_pictures compare doctor show explore prepare list_runs": "it returns an object with all that --json prints",
        "train resume sample sample_seeds translate score reel walk": "the run or the files are returned, and nothing is printed",
    },
}
"""Options of the command line that functions do not have, and what is written instead, by functions."""


def find(name: str, table: Mapping[str, str]) -> str:
    """The entry of a table whose key has this word; empty without any."""
    return next((entry for words, entry in table.items() if name in words.split()), "")


def find_advice(name: str, command: str) -> str:
    """The entry of `NO_OPTION` about an option of a command; empty without any."""
    return next((find(command, entry) for words, entry in NO_OPTION.items() if name in words.split()), "")


def in_python(function: str, name: str) -> str:
    """What is written in Python instead of an option of the command line; empty if nothing is known.

    Args:
        function: the public function, such as `sample`.
        name: the option as it would be an argument, such as `dry_run`.
    """
    entry = IN_PYTHON.get(name, {})
    return find(function, entry) or entry.get("", "")


@dataclass(frozen=True)
class Pace:
    """What the length of a training means in images.

    Args:
        count: returns the images of an epoch; None if that is not known.
        recipe: the recipe whose batch size is meant.
        batch: images of a batch; 0 if that is not known.
        critic: steps of the discriminator for one of the generator.
        more: whether the length is added to that of an earlier training.
        counts_files: whether `count` counts files, of which some may be unreadable.
    """

    count: Callable[[], int | None]
    recipe: str = ""
    batch: int = 0
    critic: int = 1
    more: bool = False
    counts_files: bool = False


class UnknownOption(LeafwingError):
    """An option with another program's name. The message shows options as the user writes them: `--images 20`, or `images=20` from
    Python.

    Args:
        text: the message of `explain_option`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(as_keywords(text))

    def for_command_line(self) -> str:
        return self.text


def as_keywords(text: str) -> str:
    """A message with options as keyword arguments: `images=20` for `--images 20`; command lines between backticks stay."""

    def keyword(match: re.Match[str]) -> str:
        name, value = match[1].replace("-", "_"), match[2]
        if value is None:
            return name
        return f'{name}="{value}"' if "/" in value or "+" in value else f"{name}={value}"

    parts = text.split("`")
    parts[::2] = [re.sub(r"--([a-z][a-z0-9-]*)(?: (\+?[A-Z0-9][\w.]*|\w+/\w+))?", keyword, part) for part in parts[::2]]
    return "`".join(parts)


def explain_option(command: str, word: str, value: str, known: Mapping[str, str], pace: Pace | None = None) -> str:
    """The message about an option with another program's name; empty for a name that is in no table.

    Args:
        command: the command.
        word: the option as it was typed, with its dashes.
        value: the word after it, or after its `=`.
        known: the options of the command with their help texts, by name without dashes.
        pace: for commands that train.
    """
    name = word.lstrip("-").lower().replace("_", "-")
    if pace is not None and (unit := find(name, LENGTHS)):
        return f"no option {word}: {_explain_length(unit, value, pace)}"
    chosen = [other for other in find(name, OPTIONS).split() if other in known]
    shown = {f"--{other}" if len(other) > 1 else f"-{other}": known[other] for other in chosen}
    if shown:
        return f"no option {word}; use{listed(shown)}"
    text = find_advice(name, command)
    return f"no option {word}: {text}" if text else ""


def refuse(command: str, options: Mapping[str, Any], known: Mapping[str, str], pace: Pace | None = None) -> None:
    """Raises UnknownOption for an option with another program's name, and LeafwingError for one that only the command line has.

    Args:
        command: the command.
        options: the options that are set, by their names in Python.
        known: the options of the command with their help texts, likewise.
        pace: for commands that train.
    """
    shown = {name.replace("_", "-"): text for name, text in known.items()}
    for name, value in options.items():
        if name not in known and (instead := in_python(command, name)):
            raise LeafwingError(f"{command} has no argument {name!r}: {instead}")
        if name not in known and (text := explain_option(command, f"--{name.replace('_', '-')}", str(value), shown, pace)):
            raise UnknownOption(text)


def refuse_unknown(command: str, options: Mapping[str, Any], known: Mapping[str, str], pace: Pace | None = None) -> None:
    """The same, and raises LeafwingError for any other option that the command does not have."""
    refuse(command, options, known, pace)
    for name in options:
        if name not in known:
            raise LeafwingError(f"{command} has no argument {name!r}{did_you_mean(name, known)}")


def listed(lines: Mapping[str, str]) -> str:
    """Names with their descriptions, one a line; a single one in the same sentence."""
    if len(lines) == 1:
        name, text = next(iter(lines.items()))
        return f" {name}: {text}"
    width = max(map(len, lines))
    return ":" + "".join(f"\n  {name:{width}}  {text}" for name, text in lines.items())


def _explain_length(unit: str, value: str, pace: Pace) -> str:
    """How long a training is in images, from its length in another unit."""
    try:
        number = max(float(ungrouped(value)), 0.0)
    except ValueError:
        number = 0.0
    number = number if isfinite(number) else 0.0
    more = " more" * pace.more
    start = "the length of training is counted in images shown: --images " + "+" * pace.more

    def images(of_one: float) -> str:
        return f"{start}{max(round(number * of_one), 1)}"

    if unit == "kimg":
        return f"{images(1000)} for {number:g} kimg{more}" if number else f"{start}25k for 25 kimg{more}"
    if unit == "epochs":
        if number and (total := pace.count()):
            about = "about " * pace.counts_files
            return f"{images(total)} for {number:g}{more} epochs of {about}{total:,} images"
        return f"{start}N, where N is the number of epochs x the number of images in the data"
    if not number or not pace.batch:
        return f"{start}N, where N is the number of steps x the batch size" + (
            f", {pace.batch} in {pace.recipe}" if pace.batch else ""
        )
    text = f"{images(pace.batch)} for {number:g}{more} steps of {pace.batch} images"
    if pace.critic > 1:
        text += f"; if a step is one of G, with {pace.critic} of D: {images(pace.batch * pace.critic).rpartition(': ')[2]}"
    return text
