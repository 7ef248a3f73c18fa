"""The house rules, held by reading the source: import arrows, line budgets, vocabulary, safety, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import leafwing

PACKAGE = Path(leafwing.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {path: path.relative_to(PACKAGE).with_suffix("").as_posix() for path in FILES}
RECIPES = sorted(path.stem for path in (PACKAGE / "recipes").glob("[!_]*.py"))

# Which rooms each room may import. A folder stands for all its files; `own` allows the folder's own.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "game": {"errors"},
    "quantities": {"errors"},
    "files": {"errors"},
    "machine": set(),
    "pixels": set(),
    "tables": set(),
    "settings": {"errors", "quantities"},
    "progress": {"quantities"},
    "parts": {"game", "own"},
    "networks": {"game", "errors", "own"},
    "recipes": {"game", "parts", "networks", "files", "errors", "quantities", "settings"},
    "data": {"game", "errors", "machine", "sprites", "own"},
    "sprites": {"errors", "own"},
    "engine": {"game", "errors", "machine", "pixels", "own"},
    "loop": {"game", "errors", "engine"},
    "runs": {"recipes", "game", "files", "errors", "quantities", "settings"},
    "model": {"runs", "recipes", "game", "errors", "pixels"},
    "health": {"quantities"},
    "pictures": {"files", "errors", "machine", "pixels"},
    "laboratory": {"model", "metrics", "data", "game", "sprites", "pictures", "pixels", "progress", "errors", "own"},
    "metrics": {
        "model",
        "runs",
        "data",
        "game",
        "networks",
        "files",
        "quantities",
        "pictures",
        "pixels",
        "progress",
        "errors",
        "own",
    },  # fmt: skip,
}
ARROWS |= {
    "commands": {*ARROWS, "own"},  # here the rooms meet
    "cli": {
        "commands",
        "recipes",
        "settings",
        "health",
        "progress",
        "quantities",
        "runs",
        "laboratory",
        "tables",
        "errors",
        "own",
    },
    "__main__": {"cli"},
    "__init__": set(),  # the package imports nothing before a name of it is used
}

VARIANTS = {
    "gan", "cgan", "dcgan", "wgan", "lsgan", "r3gan", "rgan", "rpgan", "sgan", "acgan", "infogan", "bigan", "alphagan",
    "progan", "pggan", "stylegan", "stylegan2", "stylegan3", "biggan", "sagan", "sngan", "pix2pix", "cyclegan", "discogan",
    "stackgan", "gawwn", "srgan", "esrgan", "igan", "vaegan", "ebgan", "adagan", "agecgan", "hinge_gan", "dragan",
    "pacgan", "veegan", "fastgan", "gigagan", "wgan_gp", "wgangp", "dcgan_selu", "lapgan", "vgan",
}  # fmt: skip


def room(name: str) -> str:
    """The room of a file by its path without suffix: its folder, or itself."""
    return name.partition("/")[0] if "/" in name else name


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a file, lazily too, but for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the arrows"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def rooms_imported(path: Path) -> set[str]:
    """Which files of ours a file imports, by path without suffix; a package is `folder/__init__`."""
    found = set()
    for name in imports(TREES[path]):
        words = name.split(".")
        if words[0] != "leafwing":
            continue
        for n in (len(words), len(words) - 1):  # the last word may be a name inside the module
            inner = words[1:n]
            target = PACKAGE.joinpath(*inner)
            if inner and target.with_suffix(".py").is_file():
                found.add("/".join(inner))
                break
            if (target / "__init__.py").is_file():
                found.add("/".join([*inner, "__init__"]))
                break
        else:
            raise AssertionError(f"{NAMES[path]} imports {name}, which does not exist")
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_imports_point_one_way(path: Path) -> None:
    name, here = NAMES[path], room(NAMES[path])
    assert here in ARROWS, f"{here} is a new room: say in ARROWS what it may import"
    allowed = ARROWS[here]
    for other in rooms_imported(path):
        if other == "__init__":
            continue  # the package's own version
        there = room(other)
        assert there in allowed or (there == here and "own" in allowed), f"{name} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_nobody_imports_the_command_line(path: Path) -> None:
    if room(NAMES[path]) not in ("__main__", "cli"):
        assert not {"cli", "__main__"} & {room(name) for name in rooms_imported(path)}


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_only_the_command_line_imports_the_commands(path: Path) -> None:
    if room(NAMES[path]) not in ("cli", "commands"):
        assert "commands" not in {room(name) for name in rooms_imported(path)}


def test_the_package_itself_imports_nothing_at_start() -> None:
    assert rooms_imported(PACKAGE / "__init__.py") == set()


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Files that import each other, directly or by way of others: each circle once, from its first file back to it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for other in sorted(arrows.get(name, set())):
                follow(other, [*way, name])
            done.add(name)

    for name in arrows:
        follow(name, [])
    return found


def test_no_files_import_each_other_in_circles() -> None:
    """Imports inside functions count. A package's own file, which says what it exports, is followed to nothing."""
    arrows = {NAMES[path]: {other for other in rooms_imported(path) if not other.endswith("__init__")} for path in FILES}
    assert circles(arrows) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_no_file_is_longer_than_its_budget(path: Path) -> None:
    name = NAMES[path]
    recipe = name.startswith("recipes/") and not path.stem.startswith("_")
    assert lines(path) <= (120 if recipe else 300 if name == "loop" else 600)


def words_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a file with their lines, docstrings and comments aside."""
    docs = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docs |= {id(line.value) for line in body if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield line, node.value
        elif isinstance(node, ast.Name):
            yield line, node.id
        elif isinstance(node, ast.Attribute):
            yield line, node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield line, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.alias):
            yield line, node.name


# "began" is a family and a word of English.
ALL = sorted({*VARIANTS, *RECIPES} - {"began"}, key=len, reverse=True)
FAMILY = re.compile(f"(?<![a-z0-9])({'|'.join(ALL)})(?![a-z0-9])", re.IGNORECASE)


MEETING = {"game", "loop", "engine", "runs", "model", "files", "pictures", "progress", "metrics", "laboratory"}


@pytest.mark.parametrize("path", [path for path in FILES if room(NAMES[path]) in MEETING], ids=NAMES.get)
def test_no_family_is_named_where_all_families_meet(path: Path) -> None:
    assert not [(line, word) for line, word in words_of(TREES[path]) if FAMILY.search(word)]


def test_the_search_for_family_names_finds_them() -> None:
    for word in ("wgan_gp", "train_gan", "a DCGAN network", "StyleGAN2", "recipes.cgan"):
        assert FAMILY.search(word), word
    for word in ("began", "organ", "Leafwing", "elegant"):
        assert not FAMILY.search(word), word


def module_level(tree: ast.Module) -> set[str]:
    """What importing a file imports at once: the outermost words of the modules' names, and the names in full."""
    found = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found |= set(imports(ast.Module([node], [])))
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_optional_packages_are_imported_only_when_used(path: Path) -> None:
    names = module_level(TREES[path])
    assert not roots(names) & {"tensorboard", "matplotlib", "scipy", "torchmetrics", "onnx", "pandas"}
    assert not {name for name in names if name.startswith("torch.utils.tensorboard")}


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "__main__",
        "cli/__init__",
        "cli/shared",
        "cli/train",
        "errors",
        "game",
        "recipes/__init__",
        "progress",
        "quantities",
        "settings",
    ],
)
def test_what_starts_the_command_line_does_not_import_torch(name: str) -> None:
    assert not roots(module_level(TREES[PACKAGE / f"{name}.py"])) & {"torch", "numpy", "PIL", "safetensors", "sklearn"}


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_torchvision_and_pickle_are_used_nowhere(path: Path) -> None:
    used = roots(set(imports(TREES[path])))
    assert not used & {"torchvision", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_true(call: ast.Call, name: str) -> bool:
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_nothing_that_is_read_is_executed(path: Path) -> None:
    for call in calls(TREES[path]):
        called = ast.unparse(call.func)
        if called == "torch.load":
            assert is_true(call, "weights_only"), f"line {call.lineno}: torch.load without weights_only=True"
        assert not is_true(call, "allow_pickle"), f"line {call.lineno}: allow_pickle"
        assert not is_true(call, "shell"), f"line {call.lineno}: a shell"
        assert called not in ("eval", "os.system")
        if called == "exec":
            assert NAMES[path] == "runs", "only a trusted run folder's recipe is executed, and only there"


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_every_public_function_and_class_says_what_it_is(path: Path) -> None:
    if path.name != "__main__.py":
        assert ast.get_docstring(TREES[path]), "the file has no docstring"
    assert [node.name for node in public(TREES[path]) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_stops_gradients_itself(name: str) -> None:
    """Everyone who does not move has no gradients, so no recipe needs to."""
    words = {word for _, word in words_of(TREES[PACKAGE / "recipes" / f"{name}.py"])}
    assert not words & {
        "detach",
        "detach_",
        "no_grad",
        "inference_mode",
        "requires_grad_",
        "requires_grad",
        "set_grad_enabled",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_one_function_of_the_files_name(name: str) -> None:
    functions = [
        node.name for node in public(TREES[PACKAGE / "recipes" / f"{name}.py"]) if isinstance(node, ast.FunctionDef)
    ]
    assert functions == [name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_steps_and_reads_nothing(name: str) -> None:
    """Costs are returned and the loop steps; a recipe opens no file and prints nothing."""
    used = {ast.unparse(call.func) for call in calls(TREES[PACKAGE / "recipes" / f"{name}.py"])}
    assert not {
        word for word in used if word in ("open", "print", "input") or word.endswith((".step", ".backward", ".item"))
    }


@pytest.mark.parametrize("path", [p for p in FILES if NAMES[p].startswith(("parts/", "networks/"))], ids=NAMES.get)
def test_no_turn_waits_for_the_device(path: Path) -> None:
    """Parts and networks run inside a turn: they read no tensor on the host."""
    used = {ast.unparse(call.func).rpartition(".")[2] for call in calls(TREES[path])}
    assert not used & {"item", "tolist", "numpy", "cpu", "synchronize", "nonzero"}
