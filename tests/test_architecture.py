"""The rules of ARCHITECTURE.md, checked on the source text: the tree, imports, line budgets, vocabulary, safety, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import leafwing

PACKAGE = Path(leafwing.__file__).parent
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {path: path.relative_to(PACKAGE).with_suffix("").as_posix() for path in FILES}
RECIPES = sorted(path.stem for path in (PACKAGE / "recipes").glob("[!_]*.py"))

# What each package may import, as in section 3 of ARCHITECTURE.md. A folder stands for all of its files; `own`: for each other.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "fields": {"errors", "pixels", "quantities"},
    "clock": set(),
    "optimisers": {"clock", "errors"},
    "game": {"errors", "fields", "clock", "optimisers"},
    "conditions": {"errors", "fields", "game", "pixels"},
    "quantities": {"errors"},
    "files": {"errors"},
    "weights_file": {"errors", "files"},
    "option_names": {"errors", "quantities"},
    "calls": {"option_names", "errors", "quantities"},
    "optional": {"errors"},
    "films": {"errors", "files", "optional"},
    "layout": {"errors"},
    "machine": set(),
    "pixels": set(),
    "tables": set(),
    "augment_option": {"errors", "quantities"},
    "settings": {"augment_option", "errors", "quantities"},
    "notebook": set(),
    "progress": {"quantities", "errors", "notebook"},
    "parts": {"game", "networks", "own"},
    "networks": {"game", "fields", "optional", "errors", "pixels", "own"},
    "recipes": {"game", "fields", "parts", "networks", "files", "errors", "machine", "quantities", "settings"},
    "data": {"game", "fields", "files", "errors", "machine", "optional", "pixels", "quantities", "sprites", "own"},
    "sprites": {"fields", "errors", "own"},
    "engine": {"augment_option", "game", "errors", "machine", "pixels", "parts", "quantities", "own"},
    "loop": {"game", "errors", "engine"},
    "config": {"recipes", "game", "fields", "files", "quantities", "settings", "errors"},
    "runs": {"calls", "config", "recipes", "game", "files", "weights_file", "errors", "quantities", "settings", "notebook"},
    "latents": {"game", "parts", "errors", "pixels"},
    "pictures": {"game", "fields", "layout", "films", "files", "errors", "machine", "pixels"},
    "drawing": {"game", "fields", "films", "files", "notebook", "pictures", "pixels", "progress", "errors"},
    "model": {
        "calls",
        "runs",
        "engine",
        "game",
        "fields",
        "conditions",
        "latents",
        "drawing",
        "pictures",
        "errors",
        "pixels",
        "quantities",
    },
    "model_sheet": {"model", "game", "fields", "conditions", "pictures", "errors"},
    "health": {"quantities"},
    "field_sheet": {"fields", "pictures", "pixels"},
    "laboratory": {
        "model",
        "latents",
        "metrics",
        "data",
        "game",
        "fields",
        "conditions",
        "sprites",
        "files",
        "films",
        "layout",
        "machine",
        "optional",
        "pictures",
        "pixels",
        "progress",
        "quantities",
        "errors",
        "own",
    },
    "metrics": {
        "augment_option",
        "model",
        "latents",
        "networks",
        "data",
        "engine",
        "game",
        "fields",
        "conditions",
        "files",
        "weights_file",
        "optional",
        "quantities",
        "pictures",
        "pixels",
        "progress",
        "errors",
        "own",
    },
}
ARROWS |= {
    "commands": {*ARROWS, "own"},  # combines all packages above
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
        "option_names",
        "errors",
        "own",
    },
    "__main__": {"cli"},
    "__init__": set(),  # nothing before one of its names is used
}

VARIANTS = {
    "gan", "cgan", "dcgan", "wgan", "lsgan", "r3gan", "rgan", "rpgan", "sgan", "acgan", "infogan", "bigan", "alphagan",
    "progan", "pggan", "stylegan", "stylegan2", "stylegan3", "biggan", "sagan", "sngan", "pix2pix", "cyclegan", "discogan",
    "stackgan", "gawwn", "srgan", "esrgan", "igan", "vaegan", "ebgan", "adagan", "agecgan", "hinge_gan", "dragan",
    "pacgan", "veegan", "fastgan", "gigagan", "wgan_gp", "wgangp", "dcgan_selu", "lapgan", "vgan",
}  # fmt: skip


# --- the tree -----------------------------------------------------------------------------------------------------------------


def section(number: int) -> str:
    """The text of a numbered section of ARCHITECTURE.md."""
    return PAGE.partition(f"\n## {number}. ")[2].partition("\n## ")[0]


def tree_entries(text: str) -> dict[str, str]:
    """The paths in a drawing of a tree with their descriptions; the paths of folders end with a slash.

    A line holds one name or several, then two spaces or more, then the description, which may continue on the next line.
    """
    entries: dict[str, str] = {}
    folders: list[str] = []
    paths: list[str] = []
    for line in text.splitlines():
        drawing, content = re.fullmatch(r"([│├└─ ]*)(.*)", line).groups()  # type: ignore[union-attr]
        if drawing and not {"├", "└"} & {*drawing}:
            for path in paths:
                entries[path] += f" {content}"
            continue
        names, _, description = content.partition("  ")
        folders = folders[: len(drawing) // 4]
        paths = ["".join(folders) + name for name in names.split()]
        entries |= dict.fromkeys(paths, description.strip())
        if names.endswith("/"):
            folders.append(names)
    return entries


TREE = tree_entries(section(2).partition("```text\n")[2].partition("```")[0].strip("\n"))


def test_a_drawing_of_a_tree_is_read() -> None:
    text = "a/b/    top\n├── c.py d.py\n├── e/  inner\n│   │    continued\n│   └── f.py  text\n└── g/\n    └── h.py\ni/"
    assert tree_entries(text) == {
        "a/b/": "top",
        "a/b/c.py": "",
        "a/b/d.py": "",
        "a/b/e/": "inner continued",
        "a/b/e/f.py": "text",
        "a/b/g/": "",
        "a/b/g/h.py": "",
        "i/": "",
    }


def test_every_path_in_the_tree_exists() -> None:
    assert {"src/leafwing/", "tests/", "bench/", "docs/"} <= {*TREE}
    assert [path for path in TREE if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())] == []


def test_every_file_of_the_package_is_in_the_tree() -> None:
    """The line of `recipes/` stands for the recipes, and the line of a folder for its `__init__.py`."""
    assert "one file per method" in TREE["src/leafwing/recipes/"]
    files = [path.relative_to(ROOT).as_posix() for path in sorted(PACKAGE.rglob("*")) if path.is_file()]
    missing = {path for path in files if "__pycache__" not in path} - {*TREE}
    missing -= {f"src/leafwing/recipes/{name}.py" for name in RECIPES}
    missing -= {f"{folder}__init__.py" for folder in TREE if folder.endswith("/")}
    assert sorted(missing) == []


# --- imports ------------------------------------------------------------------------------------------------------------------


def package(name: str) -> str:
    """The package of a file, from its path without suffix: its folder, or the file itself."""
    return name.partition("/")[0] if "/" in name else name


def is_for_types(node: ast.AST) -> bool:
    """Whether a statement is executed by type checkers only."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(tree: ast.AST, *, types: bool = False) -> Iterator[str]:
    """The modules imported anywhere in a file, also inside functions; with `types` also those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_for_types(node) and not types:
            yield from imports(ast.Module(node.orelse, []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package is imported"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node, types=types)


def own_imports(path: Path, *, types: bool = False) -> set[str]:
    """The files of leafwing that a file imports, as paths without suffix; a folder is `folder/__init__`."""
    files = set()
    for name in imports(TREES[path], types=types):
        words = name.split(".")
        if words[0] != "leafwing":
            continue
        if words[1:] in ([], ["__version__"]):
            continue
        for n in (len(words), len(words) - 1):  # the last word may be a name inside the module
            inner = words[1:n]
            target = PACKAGE.joinpath(*inner)
            if inner and target.with_suffix(".py").is_file():
                files.add("/".join(inner))
                break
            if (target / "__init__.py").is_file():
                files.add("/".join([*inner, "__init__"]))
                break
        else:
            raise AssertionError(f"{NAMES[path]} imports {name}, which does not exist")
    return files


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_imports_point_one_way(path: Path) -> None:
    name, here = NAMES[path], package(NAMES[path])
    assert here in ARROWS, f"{here} is a new package: add what it may import to ARROWS and to ARCHITECTURE.md"
    for other in own_imports(path, types=name != "__init__"):
        assert other != "__init__", f"{name} imports a public name of the package: import it from where it is defined"
        there = package(other)
        assert ("own" if there == here else there) in ARROWS[here], f"{name} imports {other}"


def test_the_rooms_themselves_form_no_cycle() -> None:
    assert cycles({name: allowed - {"own"} for name, allowed in ARROWS.items()}) == []
    assert {name for allowed in ARROWS.values() for name in allowed} <= {*ARROWS, "own"}


def test_the_page_lists_the_same_imports() -> None:
    table: dict[str, set[str]] = {}
    for packages, text in re.findall(r"^\| (`.+?) \| (.+) \|$", section(3), re.MULTILINE):
        text = text.partition(";")[0]
        allowed = {*re.findall(r"`(\w+)`", text)}
        allowed |= {*table} if "all packages above" in text else set()
        allowed |= {"own"} if "each other" in text or "its own files" in text else set()
        table |= dict.fromkeys(re.findall(r"`(\w+)`", packages), allowed)
    assert table == ARROWS


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_modules_are_imported_by_name_only_inside_a_package(path: Path) -> None:
    """`import_module` is hidden from the other tests: it may only find the files of its own package, or the public names."""
    for call in calls(TREES[path]):
        called = ast.unparse(call.func)
        assert called not in ("__import__", "import_module")
        if called == "importlib.import_module" and NAMES[path] != "__init__":
            assert ast.unparse(call.args[0]).startswith(f"f'leafwing.{package(NAMES[path])}."), f"line {call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_the_command_line_is_imported_only_by_main(path: Path) -> None:
    if package(NAMES[path]) not in ("__main__", "cli"):
        assert not {"cli", "__main__"} & {package(name) for name in own_imports(path, types=True)}


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_the_commands_are_imported_only_by_the_command_line(path: Path) -> None:
    if package(NAMES[path]) not in ("cli", "commands"):
        assert "commands" not in {package(name) for name in own_imports(path, types=NAMES[path] != "__init__")}


def test_the_package_itself_imports_nothing_at_start() -> None:
    assert own_imports(PACKAGE / "__init__.py") == set()


def cycles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Cycles of a directed graph: each once, from its first node back to it."""
    result: list[list[str]] = []
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> None:
        if name in path:
            result.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(arrows.get(name, set())):
                follow(other, [*path, name])
            done.add(name)

    for name in arrows:
        follow(name, [])
    return result


def test_no_circular_imports() -> None:
    """Imports inside functions count, and so do the `__init__.py` of folders."""
    assert cycles({NAMES[path]: own_imports(path) for path in FILES}) == []


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


# --- budgets and vocabulary ---------------------------------------------------------------------------------------------------


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_no_file_is_longer_than_its_budget(path: Path) -> None:
    name = NAMES[path]
    recipe = name.startswith("recipes/") and not path.stem.startswith("_")
    assert lines(path) <= (120 if recipe else 300 if name == "loop" else 600)


def words_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a file with their lines, without docstrings and comments."""
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


METHODS = sorted({*VARIANTS, *RECIPES} - {"began", "cut"}, key=len, reverse=True)  # which are also English words
METHOD = re.compile(f"(?<![a-z0-9])({'|'.join(METHODS)})(?![a-z0-9])", re.IGNORECASE)
GENERIC = {
    "game", "loop", "engine", "runs", "model", "files", "pictures", "progress", "metrics", "laboratory", "parts", "settings",
    "commands",
}  # fmt: skip


@pytest.mark.parametrize("path", [path for path in FILES if package(NAMES[path]) in GENERIC], ids=NAMES.get)
def test_generic_packages_name_no_method(path: Path) -> None:
    assert not [(line, word) for line, word in words_of(TREES[path]) if METHOD.search(word)]


def test_the_search_for_names_of_methods_finds_them() -> None:
    for word in ("wgan_gp", "train_gan", "a DCGAN network", "StyleGAN2", "recipes.cgan"):
        assert METHOD.search(word), word
    for word in ("began", "organ", "Leafwing", "elegant"):
        assert not METHOD.search(word), word


# A name says what a thing is: `labels`, `matches`, `accepted`, `measures`. These words do not.
UNWANTED = {
    "told", "given", "asked", "found", "kept", "held", "seen", "heard", "begun", "taken", "spent", "worth", "gone", "tried",
    "taught", "wanted", "drawn", "mine", "theirs", "some", "much", "said", "own", "made", "pays", "echo", "likeness",
    "together", "widest", "telling", "entering", "crew", "book", "counting", "quiet", "watches", "learns", "heeds",
}  # fmt: skip
KEYS = {("networks/mixture", "begun"), ("metrics/memorisation", "held")}
"""Names that are keys in checkpoints or in metrics.jsonl, which do not change."""


def definitions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a file gives to variables, attributes, parameters, functions and classes, with their lines."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield line, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield line, node.attr
        elif isinstance(node, ast.arg):
            yield line, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield line, node.name


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_names_say_what_a_thing_is(path: Path) -> None:
    allowed = {name for file, name in KEYS if file == NAMES[path]}
    assert [(line, name) for line, name in definitions(TREES[path]) if name.strip("_") in UNWANTED - allowed] == []


def test_definitions_are_found() -> None:
    source = "class A:\n def f(self, found=1):\n  self.kept = told = asked\n  for seen, _ in x: pass"
    assert {name for _, name in definitions(ast.parse(source))} == {"A", "f", "self", "found", "kept", "told", "seen", "_"}


# --- start-up and safety ------------------------------------------------------------------------------------------------------


def module_level(tree: ast.Module) -> set[str]:
    """The modules that are imported when a file is imported."""
    body = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)]
    return set(imports(ast.Module(body, [])))


def roots(names: set[str]) -> set[str]:
    """The packages of modules."""
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
def test_the_command_line_starts_without_torch(name: str) -> None:
    assert not roots(module_level(TREES[PACKAGE / f"{name}.py"])) & {"torch", "numpy", "PIL", "safetensors", "sklearn"}


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_torchvision_and_pickle_are_not_used(path: Path) -> None:
    packages = roots(set(imports(TREES[path])))
    assert not packages & {"torchvision", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_true(call: ast.Call, name: str) -> bool:
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_input_files_are_not_executed(path: Path) -> None:
    for call in calls(TREES[path]):
        called = ast.unparse(call.func)
        if called == "torch.load":
            assert is_true(call, "weights_only"), f"line {call.lineno}: torch.load without weights_only=True"
        assert not is_true(call, "allow_pickle"), f"line {call.lineno}: allow_pickle"
        assert not is_true(call, "shell"), f"line {call.lineno}: a shell"
        assert called not in ("eval", "os.system")
        if called == "exec":
            assert NAMES[path] == "runs", "only the recipe of a trusted run folder is executed, in runs"


# --- docstrings, recipes, parts -----------------------------------------------------------------------------------------------


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """The public functions and classes of a file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_every_public_function_and_class_has_a_docstring(path: Path) -> None:
    if path.name != "__main__.py":
        assert ast.get_docstring(TREES[path]), "the file has no docstring"
    assert [node.name for node in public(TREES[path]) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_do_not_stop_gradients(name: str) -> None:
    """The engine disables the gradients of players that do not move."""
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
def test_a_recipe_is_one_function_named_like_the_file(name: str) -> None:
    functions = [
        node.name for node in public(TREES[PACKAGE / "recipes" / f"{name}.py"]) if isinstance(node, ast.FunctionDef)
    ]
    assert functions == [name]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_no_side_effects(name: str) -> None:
    """They return losses, and the engine steps; they open no file and print nothing."""
    called = {ast.unparse(call.func) for call in calls(TREES[PACKAGE / "recipes" / f"{name}.py"])}
    assert not {
        word for word in called if word in ("open", "print", "input") or word.endswith((".step", ".backward", ".item"))
    }


@pytest.mark.parametrize("path", [p for p in FILES if NAMES[p].startswith(("parts/", "networks/"))], ids=NAMES.get)
def test_parts_and_networks_do_not_synchronise(path: Path) -> None:
    """They run inside a turn, which reads no tensor on the host."""
    called = {ast.unparse(call.func).rpartition(".")[2] for call in calls(TREES[path])}
    assert not called & {"item", "tolist", "numpy", "cpu", "synchronize", "nonzero"}
