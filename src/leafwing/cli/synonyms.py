"""What people type who know other programs: their names of commands, and what does the same here.

Those of options are in `option_names.py`, those of methods in `recipes`. They are looked up when a command line is
refused, so nothing in them is another way to write a command.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from leafwing.errors import did_you_mean
from leafwing.option_names import find, listed

COMMANDS = {
    "generate gen generation synthesize synthesise synth create draw": "sample",
    "predict infer inference apply run-model": "sample translate",
    "test eval evaluation validate validation metrics metric fid benchmark": "evaluate",
    "fit train-gan training learn run start": "train",
    "finetune fine-tune transfer": "train resume",
    "continue": "resume",
    "list ls history log logs status": "runs",
    "models model zoo methods gans architectures list-recipes": "recipes",
    "video gif movie film animate animation timelapse": "walk reel",
    "interpolation lerp slerp morph latent-walk": "walk",
    "invert-image inversion project projector encode": "invert",
    "inpaint inpainting fill": "complete",
    "truncation": "truncate",
    "pix2pix cyclegan img2img image2image stylize stylise colorize colorise": "translate",
    "discriminate discriminator rate rank": "score",
    "check info inspect stats statistics diagnose analyse-data analyze-data validate-data": "doctor",
    "analyse analyze study": "explore",
    "view preview look browse grid sheet samples": "show",
    "preprocess preprocessing crop align dataset dataset-tool": "prepare doctor",
    "versus vs bench": "compare",
}
"""Names of commands, with - for _, and the commands or tools of `explore` that do the same."""
ARGUMENTS = {
    "train": "SOURCE", "doctor": "SOURCE", "show": "SOURCE", "prepare": "SOURCE --landmarks --out FOLDER",
    "sample": "RUN", "reel": "RUN", "resume": "RUN",
    "walk": "RUN",
    "evaluate": "RUN", "score": "RUN PICTURES", "translate": "RUN PICTURES", "explore": "RUN TOOL",
    "compare": "SOURCE --recipes dcgan,lsgan",
}  # fmt: skip
"""The required arguments of commands, for examples."""
NO_COMMAND = {
    "export onnx torchscript ship deploy package publish save": "there is no export to other formats yet. A run needs no training "
    "data to generate: its run.json, recipe.py and weights-*.safetensors are enough, `leafwing sample` and leafwing.Model.load read "
    "them, and any safetensors library reads the weights",
    "convert transform": "there is no conversion of runs to other formats yet; `leafwing translate RUN PICTURES` generates pictures "
    "from pictures, and `leafwing prepare` cuts pictures for training",
    "upscale superres super-resolution sr enlarge enhance": "`leafwing translate RUN PICTURES` enlarges pictures with "
    "a run that was trained for it: `leafwing train SOURCE --recipe srgan --input low4`",
    "plot plots curve curves loss losses graph tensorboard": "there is no plot of a single run yet: its log.jsonl has the losses, "
    "`leafwing train --tensorboard` writes TensorBoard files, and `leafwing compare` draws learning curves of several runs",
    "download fetch get": "leafwing downloads no data: download a folder or an archive of images, then `leafwing train PATH`",
    "serve server web ui gui app": "there is no server and no window yet; from Python: leafwing.Model.load(RUN).sample(16)",
    "init new config setup configure": "there is nothing to set up: `leafwing train SOURCE` creates a run folder, whose run.json has "
    "all settings; --from RUN uses them again",
    "resize": "`leafwing train SOURCE --size 64` fits images to a size itself, and so do doctor and show",
    "delete remove rm clean prune": "leafwing never deletes a run: remove its folder yourself",
    "demo example quickstart": "try `leafwing train digits --images 20k`, which needs no data of yours",
}
"""Names of commands, and what is said instead, because no command does this."""


def explain_command(word: str, lines: Mapping[str, str], tools: Mapping[str, str]) -> str:
    """The message about an unknown command.

    Args:
        word: what was typed.
        lines: the commands, with their lines in the list of commands.
        tools: the tools of `explore`, with theirs.
    """
    typed = word.lower().replace("_", "-")
    if text := find(typed, NO_COMMAND):
        return f"no command {word!r}: {text}"
    names = [typed] if typed in tools else find(typed, COMMANDS).split()
    if not names:
        if Path(word).exists():
            command = "sample" if (Path(word) / "run.json").is_file() else "train"
            return f"no command {word!r}: the command comes first, such as leafwing {command} {shlex.quote(word)}"
        return f"no command {word!r}{did_you_mean(typed, lines)}"
    shown = {
        f"leafwing explore RUN {name}" if name in tools else f"leafwing {name} {ARGUMENTS.get(name, '')}".rstrip(): (
            tools.get(name) or lines[name]
        )
        for name in names
    }
    return f"no command {word!r}; use{listed(shown)}"
