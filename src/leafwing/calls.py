"""Calls from Python: a wrong name, a missing argument or a value of another kind becomes an error that says what to write."""

from __future__ import annotations

import builtins
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import FunctionType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.option_names import OPTIONS, find, in_python
from leafwing.quantities import LARGEST, plural, real, whole

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)
PLAIN = (str, bytes, bool, int, float, list, tuple, dict, Path, type(None))
"""Kinds of values that are refused where another kind is expected; what else stands in for an object is not examined."""

WORDS: Mapping[str, str] = {
    "int": "a number", "float": "a number", "bool": "True or False", "str": "text", "Path": "a path", "NoneType": "None",
    "ndarray": "a NumPy array",
}  # fmt: skip
"""How messages name types, by their names; others as these."""


def checked(function: Function) -> Function:
    """A public function or method that checks its arguments, as far as its signature decides.

    A call raises LeafwingError for an argument that does not exist, one that is missing, and a plain value where the annotation has
    another type. Text that is a number is a number where one is expected, and the other way round. `~` in paths is the user's folder.
    """
    signature = inspect.signature(function)
    single = [
        name for name, item in signature.parameters.items() if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
    ]

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        try:
            bound = signature.bind(*values, **named)
        except TypeError:
            raise LeafwingError(explain(function, signature, len(values), named)) from None
        hints = hints_of(function)
        for name in hints.keys() & bound.arguments.keys() & {*single}:
            bound.arguments[name] = convert(function, name, bound.arguments[name], hints[name])
        with usual_defaults():
            return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Inside, new tensors of torch are float32 and on the CPU, unless they are asked for otherwise, whatever the caller has set."""
    torch = sys.modules.get("torch")
    if torch is None or (torch.get_default_dtype() == torch.float32 and torch.get_default_device().type == "cpu"):
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def checked_methods(cls: Class) -> Class:
    """A class whose public methods, and whose creation, are checked; see `checked`."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, FunctionType):
            setattr(cls, name, checked(member))
        elif isinstance(member, classmethod):
            setattr(cls, name, classmethod(checked(member.__func__)))
    return cls


def explain(function: Callable[..., Any], signature: inspect.Signature, positional: int, named: Mapping[str, Any]) -> str:
    """Why a call does not fit a signature, and what to write.

    Args:
        function: what was called.
        signature: its signature.
        positional: number of arguments without a name, with `self`.
        named: the others.
    """
    parameters = {name: item for name, item in signature.parameters.items() if name not in ("self", "cls")}
    positional -= len(parameters) < len(signature.parameters)
    names = [name for name, item in parameters.items() if item.kind in (item.KEYWORD_ONLY, item.POSITIONAL_OR_KEYWORD)]
    ordered = [name for name in names if parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    is_open = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    problems = []
    for name in named.keys() - {*names}:
        words = [word.replace("-", "_") for word in find(name.replace("_", "-"), OPTIONS).split()]
        if instead := in_python(label(function), name):
            problems.append(f"has no argument {name!r}: {instead}")
        elif others := [word for word in words if word in names]:
            problems.append(f"has no argument {name!r}: write {others[0]}=...")
        elif not is_open:
            problems.append(f"has no argument {name!r}{did_you_mean(name, names)}")
    if positional > len(ordered):
        problems.append(
            f"takes {plural(len(ordered), 'argument')} without a name, not {positional}: write NAME=VALUE for the others"
        )
    if twice := [name for name in ordered[:positional] if name in named]:
        problems.append(f"got {twice[0]} twice, by its place and by its name")
    missing = [
        name
        for name in names
        if parameters[name].default is inspect.Parameter.empty and name not in {*named, *ordered[:positional]}
    ]
    if missing and not problems:
        problems.append(f"needs {' and '.join(missing)}. {about(function, missing[0])}")
    return f"{label(function)} {'; it '.join(problems)}{advice(function)}"


def label(function: Callable[..., Any]) -> str:
    """The name of a function as users write it: `train`, `Model.grid`, `Model`."""
    return function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")


def advice(function: Callable[..., Any]) -> str:
    """What to call instead of creating an object of a class that opens what is stored."""
    owner, _, name = function.__qualname__.rpartition(".")
    cls = function.__globals__.get(owner)
    opener = next((word for word in ("load", "open") if name == "__init__" and hasattr(cls, word)), "")
    return f'. {owner}.{opener}("last") opens a trained run' if opener else ""


@cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function; names that only type checkers import mean any type."""

    class Names(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return function.__globals__.get(name, getattr(builtins, name, Any))

    try:
        return get_type_hints(function, localns=Names())
    except (NameError, AttributeError, TypeError):
        return {}


def convert(function: Callable[..., Any], name: str, value: Any, kind: Any) -> Any:
    """A value as its annotation says: a number for text that is one, text for a number, a path or torch's device, a path without `~`;
    otherwise unchanged.

    Raises:
        LeafwingError: a plain value of another kind, or any value of another kind than text and paths where only these are expected.
    """
    kinds = kinds_of(kind)
    if kinds and Path in kinds and isinstance(value, str | Path) and str(value).startswith("~"):
        value = type(value)(os.path.expanduser(value))  # the folder of the user, as shells write ~
    if kinds and int in kinds and not isinstance(value, bool) and isinstance(value, Integral):
        return int(value)  # numpy's are no seeds for torch
    if kinds is None or any(fits(value, one) for one in kinds):
        return value
    if str in kinds and (isinstance(value, os.PathLike) or type(value).__name__ == "device"):
        return str(value)
    is_text = all(one in (str, type(None)) or issubclass(one, os.PathLike) for one in kinds)
    if not isinstance(value, PLAIN) and not is_text:
        return value
    if isinstance(value, str) and {int, float} & {*kinds}:
        try:
            return number_in(value)
        except ValueError as error:
            reason = f"{error}, not str. {about(function, name)}"
            raise InvalidOption(name, value, reason, owner=label(function)) from None
    if not isinstance(value, bool) and isinstance(value, Real) and str in kinds:
        return str(value)
    words = " or ".join(dict.fromkeys(WORDS.get(one.__name__, f"a {one.__name__}") for one in kinds))
    reason = f"must be {words}, not {type(value).__name__}{instead(name, value)}. {about(function, name)}{advice(function)}"
    raise InvalidOption(name, value, reason, owner=label(function))


def number_in(text: str) -> int | float:
    """The number that a text is, with the digits and bounds of all options; see `quantities`.

    Raises:
        ValueError: it is none; the message says what is expected.
    """
    try:
        return whole(text, "number", -LARGEST)
    except InvalidOption:
        return real(text)


def instead(name: str, value: Any) -> str:
    """What to give for a value where a path is expected, for the arguments of which this can be said; else empty."""
    if name in ("run", "replay"):
        return "; a Model does not know its folder" if type(value).__name__ == "Model" else ""
    if name not in ("source", "data", "pictures") or not hasattr(value, "__len__"):
        return ""
    if isinstance(value, list | tuple) and all(isinstance(item, str | os.PathLike) for item in value):
        return "; give the folder, or an archive, that has these files and no others"
    return "; save images with numpy.save('images.npy', images) and give that path"


def about(function: Callable[..., Any], name: str) -> str:
    """What the documentation of a function says about an argument; without that, its first sentence."""
    lines = (inspect.getdoc(function) or "").splitlines()
    for line in lines:
        words, colon, text = line.strip().partition(": ")
        if colon and name in words.split(", "):
            return f"{name}: {text}"
    return lines[0] if lines else f"See help({label(function)})"


def kinds_of(kind: Any) -> tuple[type, ...] | None:
    """The types that an annotation allows; None if it allows more than can be said in types."""
    if get_origin(kind) in (Union, UnionType):
        parts = [kinds_of(part) for part in get_args(kind)]
        return None if None in parts else tuple(one for part in parts if part for one in part)
    if get_origin(kind) is Literal:
        return tuple(type(value) for value in get_args(kind))
    base = get_origin(kind) or kind
    if base is None:
        return (type(None),)
    is_open = base in (object, Any) or getattr(base, "_is_protocol", False)
    return (base,) if isinstance(base, type) and not is_open else None


def fits(value: Any, kind: type) -> bool:
    """Whether a value is of a type, where all numbers are of one."""
    if kind in (int, float, bool):
        return isinstance(value, Real)
    if kind is Path:
        return isinstance(value, str | os.PathLike)
    return isinstance(value, kind)
