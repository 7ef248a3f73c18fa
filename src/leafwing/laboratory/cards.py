"""What users may say to a tool, read from its source text: its options, what it needs and which inputs it takes. Imports no torch."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from leafwing.errors import LeafwingError, did_you_mean
from leafwing.laboratory import INPUTS, TOOLS

PACKAGE = Path(__file__).parent.parent
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "Path": Path, "None": None}


@dataclass(frozen=True)
class Card:
    """A tool's description.

    Args:
        name: a key of `TOOLS`.
        doc: its docstring.
        options: the parameters that are user options, with types and defaults.
        inputs: the names of its parameters among `INPUTS`.
        needs: what it needs of a run, in words.
    """

    name: str
    doc: str
    options: Sequence[inspect.Parameter]
    inputs: Sequence[str]
    needs: Sequence[str]


def describe(name: str) -> Card:
    """The card of a tool.

    Raises:
        LeafwingError: no such tool.
    """
    if name not in TOOLS:
        raise LeafwingError(f"no tool {name!r}{did_you_mean(name, TOOLS)}")
    tree = _parse(f"leafwing.laboratory.{name}")
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    options, inputs = [], []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.arg in INPUTS:
            inputs.append(argument.arg)
            continue
        assert argument.annotation is not None
        assert default is not None
        parameter = inspect.Parameter(
            argument.arg,
            inspect.Parameter.KEYWORD_ONLY,
            default=ast.literal_eval(default),
            annotation=_type(argument.annotation, tree),
        )
        options.append(parameter)
    declared = next(
        node for node in function.decorator_list if isinstance(node, ast.Call) and ast.unparse(node.func) == "needs"
    )
    words = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value.args[0])
        for node in _parse("leafwing.laboratory.needs").body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Need"
    }
    needs = [words[ast.unparse(need)] for need in declared.args]
    return Card(name, ast.get_docstring(function) or "", options, inputs, needs)


def _parse(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _type(node: ast.expr, tree: ast.Module) -> Any:
    """The type that an annotation in a file means: a plain one, a Literal, a name for one of these, or several with `|`."""
    if isinstance(node, ast.BinOp):
        return Union[_type(node.left, tree), _type(node.right, tree)]  # noqa: UP007  # of values
    text = ast.unparse(node)
    if text in TYPES:
        return TYPES[text]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        choices = ast.literal_eval(node.slice)
        return Literal[choices]
    if isinstance(node, ast.Attribute):  # films.Kind
        return _type(ast.Name(node.attr), _parse(f"leafwing.{ast.unparse(node.value)}"))
    for line in tree.body:
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == [text]:
            return _type(line.value, tree)
        if isinstance(line, ast.ImportFrom) and line.module and text in [alias.name for alias in line.names]:
            return _type(node, _parse(line.module))
    raise ValueError(f"{text}: not a type that a command line can have")
