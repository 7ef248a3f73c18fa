"""One file per GAN family: the file name is the recipe's name, and its single public function is the recipe.

This file finds and describes recipes. A recipe is described from its source text, without executing it and without torch: the
first line of its docstring is *Name. Authors year, title, arXiv:id*, the second paragraph is a summary, the function's signature
is its configuration, and the Args section documents it. An optional dictionary `POINTS` in the file overrides the signature's
defaults for 2D point data.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leafwing import files
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.machine import available_memory
from leafwing.quantities import count, real, show_count
from leafwing.settings import reserved_names

if TYPE_CHECKING:
    from leafwing.game import DataSpec, Game, Recipe

FOLDER = Path(__file__).parent
EARLIER = FOLDER / "earlier.json"
"""Earlier versions of the installed recipes that compute the same: per recipe the sha256 of their files, and options whose names
changed since."""
DEFAULT = "dcgan"
Value = bool | int | float | str
_STYLE = (
    "the networks of StyleGAN are not included: for their quality, with an NVIDIA GPU, use https://github.com/NVlabs/stylegan3; here, "
    "leave out --recipe, or take fastgan or projected for few pictures"
)
_DIFFUSION = (
    "leafwing trains GANs: for pictures from a sentence, or a style from a dozen pictures, fine-tune a pretrained diffusion model "
    "with LoRA; for small pictures of your own, leave out --recipe"
)
NOT_INCLUDED = {
    "stylegan stylegan2 stylegan3 stylegan_xl stylegan2_ada stylegan2_ada_pytorch stylegan2_pytorch stylegan_ada": _STYLE,
    "diffusion ddpm ddim ldm stable_diffusion sd sdxl lora dreambooth flux dalle text2image text_to_image": _DIFFUSION,
    "progan pggan progressive_gan biggan gigagan stylegan_t": (
        "not included; published weights are in https://github.com/POSTECH-CVLab/PyTorch-StudioGAN; here, leave out --recipe"
    ),
    "lightweight_gan lightweight": "not included under this name; fastgan is the method that it is built on",
    "esrgan real_esrgan realesrgan": "not included; srgan enlarges pictures: --recipe srgan --input low4",
    "pix2pixhd spade gaugan": "not included; pix2pix makes pictures from pictures: --recipe pix2pix --input grey",
    "stargan munit unit": "not here; sggan_sparse changes attributes; cut makes one kind of pictures of another (--input OTHERS)",
    "vae vqvae vqgan autoencoder": "not a GAN; vaegan, bigan and alpha_gan find latents of given pictures",
    "conditional conditional_gan": "the name is cgan: --recipe cgan",
    "auto best default recommended": "leave out --recipe: then the recipe is chosen",
}
"""Names of methods that are no recipes, and what there is instead."""

# A hyper-parameter has the same name in every installed recipe, so its bounds are defined once.
AT_LEAST = {
    0: """
        burst_first lr_end ema penalty gamma gamma_end dropout momentum beta1 beta2 class_weight pull history reference
        reconstruction divergence_weight codes information unlabelled ema_d ranking gate l1 patch adversarial
        cycle identity pool blocks decay semantic segmenter_share g_alone d_alone
        contrast warm_up rate feature_matching l2 edges soft steerable noise first condition_scale content rebuild
    """,
    1: """
        latent width width_d max_width pieces batch n_critic burst burst_every n_generator components stages draws patches scales
        embedding turns_of_g directions mixed
    """,
    2: "packing categories",
}
MOST = 2**30
"""The largest value of a whole number that has no bound of its own."""
LIMITS = {
    65_536: "latent width width_d max_width embedding",
    10_000: "n_critic burst burst_first n_generator turns_of_g draws patches categories codes",
    1_000: "blocks stages pieces components scales packing directions",
}
AT_MOST = {name: most for most, group in LIMITS.items() for name in group.split()}
"""What builds layers or repeats turns is bounded, because each one takes time and memory before training begins."""
POSITIVE = "clip lr_g lr_d margin smooth temperature sigma"
BOUNDS = {name: (least, True) for least, group in AT_LEAST.items() for name in group.split()}
BOUNDS |= dict.fromkeys(POSITIVE.split(), (0, False))
BELOW_ONE = {
    "dropout",
    "momentum",
    "beta1",
    "beta2",
    "segmenter_share",
    "g_alone",
    "d_alone",
    "rate",
    "feature_matching",
    "first",
}
SHARES = {"smooth", "soft"}
"""Probabilities and weights between 0 and 1, which 1 is one of."""
HALF_LIVES = ("ema", "ema_d")
"""Options that are half-lives in images, where other programs have a decay."""


def refuse_decays(options: Mapping[str, Value]) -> None:
    """Raises LeafwingError for the decay of an average, such as 0.999, where a half-life in images is expected.

    Args:
        options: all hyper-parameters of a new run. Old ones may have such a value, without effect.
    """
    for name in HALF_LIVES:
        if 0 < (decay := float(options.get(name) or 0)) < 1:
            images = round(int(options.get("batch", 64)) * math.log(0.5) / math.log(decay))
            reason = "this is a half-life in images, not a decay"
            raise InvalidOption(
                name, options[name], f"{reason}: a decay of {decay:g} for each batch is {show_count(images)} images"
            )


@dataclass(frozen=True)
class Option:
    """One hyper-parameter of a recipe: its name, type (bool, int, float or str), default, help text and allowed values; and whether
    it has the bounds of its name, as in installed recipes."""

    name: str
    type: type
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    bounded: bool = True

    def check(self, recipe: str, value: object) -> Value:
        """The value converted to this option's type; numbers may be given as text.

        Raises:
            LeafwingError: invalid value; the message names the recipe, the option and the accepted values.
        """
        try:
            return self._check(value)
        except ValueError as error:
            raise InvalidOption(self.name, value, str(error), owner=f"recipe {recipe}") from None

    def _check(self, value: object) -> Value:
        if self.type is str:
            if self.choices and value not in self.choices:
                raise ValueError(f"choose from {', '.join(self.choices)}")
            return str(value)
        if self.type is bool:
            if str(value).lower() not in ("true", "false"):
                raise ValueError("must be true or false")
            return str(value).lower() == "true"
        text = str(value)
        try:
            number = count(text) if text[-1:] in {*"kKmMgG"} else real(text)
        except LeafwingError:
            raise ValueError("must be a number") from None
        if self.type is int and number != int(number):
            raise ValueError("must be an integer")
        name = self.name if self.bounded else ""
        if self.type is int and number > (most := AT_MOST.get(name, MOST)):
            raise ValueError(f"must be at most {most:,}")
        least, allowed = BOUNDS.get(name, (-math.inf, True))
        if number < least or (number == least and not allowed):
            raise ValueError(f"must be {'at least' if allowed else 'greater than'} {least:g}")
        if name in BELOW_ONE and number >= 1:
            raise ValueError("must be less than 1")
        if name in SHARES and number > 1:
            raise ValueError("must be at most 1")
        return int(number) if self.type is int else number


@dataclass(frozen=True)
class Card:
    """A recipe's metadata, read from its source text."""

    name: str
    path: Path
    title: str
    authors: str
    year: int
    paper: str
    line: str
    options: tuple[Option, ...]
    points: Mapping[str, Value] = field(default_factory=dict)
    """Defaults for point data, where they differ."""
    needs: tuple[str, ...] = ()
    """The fields that it asks for with `data.need`, in some cases or always."""

    def resolve(self, values: Mapping[str, object], *, points: bool = False) -> dict[str, Value]:
        """All hyper-parameters, checked, defaults included.

        Args:
            values: options set by the user.
            points: whether the data set consists of points.

        Raises:
            LeafwingError: unknown option (with suggestions) or invalid value.
        """
        known = {option.name: option for option in self.options}
        for name in values:
            if name not in known:
                raise LeafwingError(f"recipe {self.name} has no option {name!r}{did_you_mean(name, known)}")
        chosen = {**self.points, **values} if points else values
        return {name: option.check(self.name, chosen.get(name, option.default)) for name, option in known.items()}


def names() -> list[str]:
    """The installed recipes."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def locate(recipe: str) -> Path:
    """The file of an installed recipe, or of one given by path.

    Raises:
        LeafwingError: no such recipe; the message lists the available ones.
    """
    if recipe.endswith(".py") or "/" in recipe or "\\" in recipe:
        path = Path(os.path.expanduser(recipe))
        if not path.is_file():
            raise LeafwingError(
                f"no recipe file {recipe}: give a .py file that defines one function with the same name as the file"
            )
        if not path.stem.isidentifier():
            raise LeafwingError(f"recipe file {recipe}: the name must be a Python identifier, like its function's")
        return path.resolve()
    if recipe not in names():
        plain = recipe.lower().replace("-", "_")
        if instead := next((text for words, text in NOT_INCLUDED.items() if plain in words.split()), ""):
            raise LeafwingError(f"no recipe {recipe!r}: {instead}. `leafwing recipes` lists the recipes")
        near = plain if plain in names() else recipe
        raise LeafwingError(f"no recipe {recipe!r}{did_you_mean(near, names())}; or give the path of a .py file")
    return FOLDER / f"{recipe}.py"


def function_name(path: Path) -> str:
    """The name of a recipe file's function: that of the file, or for the `recipe.py` of a run the one that its `run.json` names."""
    if path.name == "recipe.py":
        with suppress(LeafwingError, AttributeError):
            name = files.read_json(path.parent / "run.json").get("recipe")
            if isinstance(name, str) and name.isidentifier():
                return name
    return path.stem


def describe(recipe: str, name: str = "") -> Card:
    """A recipe's card, read from its source text without executing it.

    Args:
        recipe: name or file.
        name: its name, if it is not that of the file; see `function_name`.

    Raises:
        LeafwingError: no such recipe, or not a valid recipe; the message names the file and what is missing.
    """
    path = locate(recipe)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise LeafwingError(f"recipe {path} is not valid Python: {error}") from None
    name = name or function_name(path)
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if function is None:
        raise LeafwingError(
            f"recipe {path} defines no function {name}(data, *, ...): function and file must have the same name"
        )
    doc = ast.get_docstring(tree) or ""
    first, _, rest = doc.partition("\n")
    bounded = path.parent == FOLDER or is_installed(name, path)
    cited = re.match(r"(?P<title>[^.]+)\. (?P<authors>.+?) (?P<year>\d{4}), (?P<paper>.+)", first)
    line = " ".join(rest.strip().split("\n\n")[0].split())
    card = Card(
        name=name,
        path=path,
        title=cited["title"] if cited else name,
        authors=cited["authors"] if cited else "",
        year=int(cited["year"]) if cited else 0,
        paper=cited["paper"].rstrip(".") if cited else first,
        line=line,
        options=tuple(replace(option, bounded=bounded) for option in _options(path, function)),
        needs=tuple(_needs(function)),
    )
    special = _points(path, tree)
    checked = card.resolve(special)
    options = tuple(
        replace(option, help=f"{option.help} For points: {checked[option.name]}.") if option.name in special else option
        for option in card.options
    )
    return replace(card, options=options, points={option: checked[option] for option in special})


def catalogue() -> list[Card]:
    """The cards of all installed recipes, by year."""
    return sorted((describe(name) for name in names()), key=lambda card: (card.year, card.paper[-10:]))


def _options(path: Path, function: ast.FunctionDef) -> list[Option]:
    help_texts = descriptions(ast.get_docstring(function) or "")
    positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if len(positional) != 1:
        raise LeafwingError(
            f"recipe {path}: {function.name}({', '.join(positional)}) must take the data, then keyword-only options after a *: "
            f"def {function.name}(data, *, ...)"
        )
    options = []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        where = f"recipe {path}: option {argument.arg!r}"
        if argument.arg in reserved_names():
            raise LeafwingError(f"{where}: this name is reserved by `leafwing train`; choose another")
        if default is None or argument.annotation is None:
            raise LeafwingError(f"{where} needs a type and a default: {argument.arg}: float = 1.0")
        try:
            value: Any = ast.literal_eval(default)
        except (ValueError, TypeError):
            raise LeafwingError(f"{where}: its default must be a literal number, string, True or False") from None
        kind, choices = _type(argument.annotation)
        if kind is None:
            raise LeafwingError(f"{where}: its type must be bool, int, float, str or a Literal of strings")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if (actual := type(value)) is not kind:
            raise LeafwingError(
                f"{where}: its default must be of its type, {kind.__name__}: {value!r} is of {actual.__name__}"
            )
        options.append(Option(argument.arg, kind, value, help_texts.get(argument.arg, ""), choices))
    return options


def _needs(function: ast.FunctionDef) -> list[str]:
    """The names of the fields in calls of `need`."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    names = [
        keyword.arg for call in calls if ast.unparse(call.func).endswith(".need") for keyword in call.keywords if keyword.arg
    ]
    return [name for name in dict.fromkeys(names) if name != "unpaired"]


def _points(path: Path, tree: ast.Module) -> dict[str, object]:
    """The dictionary `POINTS` of a recipe's file; empty if absent."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if [ast.unparse(target) for target in targets] == ["POINTS"]:
            try:
                return dict(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                raise LeafwingError(f"recipe {path}: POINTS must be a literal dictionary of options") from None
    return {}


def _type(annotation: ast.expr) -> tuple[type | None, tuple[str, ...]]:
    if isinstance(annotation, ast.Name):
        return {"bool": bool, "int": int, "float": float, "str": str}.get(annotation.id), ()
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).rpartition(".")[2] == "Literal":
        with suppress(ValueError):
            choices = ast.literal_eval(annotation.slice)
            choices = choices if isinstance(choices, tuple) else (choices,)
            if all(isinstance(choice, str) for choice in choices):
                return str, choices
    return None, ()


def descriptions(doc: str) -> dict[str, str]:
    """The Args section of a docstring, by argument."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    texts: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else []:
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name, texts[start[1]] = start[1], start[2].strip()
        elif name:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def digest(path: Path) -> str:
    """The sha256 of a recipe's code, ignoring comments and docstrings, which do not affect training."""
    text = path.read_bytes()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return hashlib.sha256(text).hexdigest()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and body
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = body[1:]
    return hashlib.sha256(json.dumps(_plain(tree)).encode()).hexdigest()


def _plain(node: object) -> object:
    """A syntax tree as lists and texts, the same in all versions of Python, whose trees differ in empty fields."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return [type(node).__name__, *((name, _plain(value)) for name, value in fields)]
    return [_plain(item) for item in node] if isinstance(node, list) else repr(node)


def is_installed(recipe: str, path: Path) -> bool:
    """Whether a file is the installed recipe of this name, or an earlier version of it that computes the same."""
    return recipe in names() and (digest(path) == digest(FOLDER / f"{recipe}.py") or _is_earlier(recipe, path))


def current_options(recipe: str, path: Path, options: Mapping[str, Value]) -> dict[str, Value]:
    """Options as the installed recipe calls them.

    Args:
        recipe: name of the recipe.
        path: the recipe file to which the options belong; options of any other than an earlier version are returned unchanged.
        options: values by name.
    """
    renamed = _earlier()[recipe].get("renamed", {}) if _is_earlier(recipe, path) else {}
    return {renamed.get(name, name): value for name, value in options.items()}


@cache
def _earlier() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(EARLIER.read_text(encoding="utf-8")))


def _is_earlier(recipe: str, path: Path) -> bool:
    try:
        return recipe in _earlier() and files.digest(path) in _earlier()[recipe]["sha256"]
    except OSError:
        return False


def place(error: BaseException, path: str | Path) -> str:
    """Where in a recipe's file an error was raised, such as ` (mine.py, line 7)`; empty for installed recipes, or if not there."""
    frames = traceback.extract_tb(error.__traceback__) if Path(path).parent != FOLDER else ()
    return next(
        (f" ({Path(path).name}, line {frame.lineno})" for frame in reversed(frames) if frame.filename == str(path)), ""
    )


def find(recipe: str) -> Recipe:
    """The function of an installed recipe, or of a recipe file, which is executed.

    Raises:
        LeafwingError: no such recipe, or its file cannot be imported.
    """
    path = locate(recipe)
    if path.parent == FOLDER:
        module = importlib.import_module(f"leafwing.recipes.{path.stem}")
    else:
        describe(recipe)
        name = f"leafwing_recipe_{path.stem}_{digest(path)[:8]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # a .py file always has a loader
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            what = f"{type(error).__name__}: {error}{place(error, path)}"
            raise LeafwingError(f"recipe {path} cannot be imported: {what}") from error
    return cast("Recipe", getattr(module, function_name(path)))


@contextmanager
def _limited_weights(options: Mapping[str, Value]) -> Iterator[None]:
    """Refuses networks whose weights take more than a quarter of the free memory, before they take it: gradients and the state of an
    optimiser need three times as much."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    free = available_memory()
    smaller = f"--width {int(options['width']) // 2}" if "width" in options else "smaller networks"

    class Limit(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function in new and free is not None:
                self.total += math.prod(args[0]) * (kwargs.get("dtype") or torch.float32).itemsize
                if self.total > free / 4:
                    raise LeafwingError(
                        f"the weights of these networks take more than {self.total >> 20:,} MiB, a quarter of the free memory, and "
                        f"training needs four times as much; try {smaller}"
                    )
            return function(*args, **kwargs)

    aten = torch.ops.aten
    new = {
        aten.empty.memory_format,
        aten.zeros.default,
        aten.ones.default,
        aten.randn.default,
        aten.rand.default,
        aten.full.default,
    }
    try:
        with Limit():
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise LeafwingError(f"the networks do not fit into memory; try {smaller}") from error
        raise


def build(recipe: str, function: Recipe, data: DataSpec, options: Mapping[str, Value]) -> Game:
    """The game that a recipe builds for this data.

    Raises:
        LeafwingError: the recipe rejects the data or the options; the message names the recipe.
    """
    try:
        with _limited_weights(options):
            game = function(data, **options)
    except InvalidOption as error:
        raise InvalidOption(error.name, error.value, error.reason, owner=f"recipe {recipe}", flag=error.flag) from None
    except LeafwingError as error:
        if str(error).startswith("recipe "):
            raise
        raise LeafwingError(f"recipe {recipe}: {error}") from None
    except (ValueError, TypeError) as error:
        where = place(error, getattr(getattr(function, "__code__", None), "co_filename", ""))
        raise LeafwingError(f"recipe {recipe} cannot be built with these options: {error}{where}") from error
    from leafwing.game import Game

    if not isinstance(game, Game):
        raise LeafwingError(f"recipe {recipe} returns {type(game).__name__}, not a Game")
    return game
