"""Do the tests notice? Small faults, one at a time, each against the tests of the file that it is in.

    python bench/mutants.py                      # a sample over all rooms; stopped, it goes on where it was
    python bench/mutants.py --rooms health --n 20

A fault (mutant) is one of cosmic-ray's at a random place: a number or a comparison changed, a sign, `and` for `or`, a loop left out.
The sample is the same for the same seed and source. A room is a package or a module of leafwing, and has a share of the sample in
proportion to the square root of its size. First run the tests of the file: those that import it or have its name, or that of a file
that imports it; of a recipe, those of its name. If these notice nothing, then those that run the line, by `.coverage`, which `make
mutants` writes once. They run in a copy of the checkout, so that the working tree never has a fault. They must pass without one:
`make test`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

from leafwing.machine import versions
from leafwing.tables import align_columns
from rows import argument_parser, store

ROOT = Path(__file__).parents[1]
SOURCE, TESTS = ROOT / "src" / "leafwing", ROOT / "tests"
USED = re.compile(
    r"NumberReplacer|AddNot|Replace(True|False|And|Or|Break|Continue)With|ReplaceComparisonOperator|ReplaceUnaryOperator_(USub|Not|Delete)"
    r"|ZeroIteration|ReplaceBinaryOperator_(Add|Sub|Mul|Div)_(Add|Sub|Mul|Div)$"
)
"""The operators of cosmic-ray that are used. Others give type errors (bits, powers) or the same program (decorators)."""
MARK = "LEAFWING_MUTANT"
"""The variable by which the processes of one job are known."""
SKIPPED = re.compile(r"^pytestmark = (\[\s*)?.*(slow|gpu)", re.MULTILINE)
"""Files of tests that take minutes or need a device."""
MOST_FILES, MOST_TESTS, SECONDS = 4, 40, 240
"""Test files per mutant, the nearest first; further tests that run its line; and the time limit of either."""


@dataclass(frozen=True)
class Mutant:
    """A fault: its file, and what identifies it there."""

    file: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    text: str

    @property
    def room(self) -> str:
        return Path(self.file).parts[0].removesuffix(".py")

    @property
    def key(self) -> str:
        """The same for the same fault in the same text."""
        return hashlib.sha256(f"{self.file} {self.text}".encode()).hexdigest()[:16]


def meaning(source: str) -> str | None:
    """A program without what never runs: its layout, annotations, `if TYPE_CHECKING`, which parameters need a name, and those of
    functions that are `...`.

    None if it is none (the `*` of keyword-only parameters made a `/`).
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if hasattr(node, name):
                setattr(node, name, None if not isinstance(node, ast.AnnAssign) else ast.Constant(0))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.test = ast.Constant(0)
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.body[-1]) == "...":
            node.args = ast.arguments([], [], None, [], [], None, [])
        if isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [*node.defaults, *filter(None, node.kw_defaults)]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return ast.dump(tree)


@cache
def places(file: str) -> list[list[tuple[str, int]]]:
    """Operators and their occurrences, by the place in a file."""
    from cosmic_ray.ast import ast_nodes, get_ast  # not among the dependencies: `make mutants` installs it
    from cosmic_ray.operators.provider import OperatorProvider

    nodes = [*ast_nodes(get_ast((SOURCE / file).read_text(encoding="utf-8")))]
    operators, result = OperatorProvider(), dict[tuple[int, int], list[tuple[str, int]]]()
    for name in sorted(filter(USED.match, operators)):
        positions = (start for node in nodes for start, _ in operators[name]().mutation_positions(node))
        for occurrence, start in enumerate(positions):
            result.setdefault(start, []).append((name, occurrence))
    return [result[start] for start in sorted(result)]


def draw(files: list[str], random: random.Random) -> Iterator[Mutant]:
    """Different mutants of some files, without end unless there are no more."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    sizes, seen, misses = [(SOURCE / file).stat().st_size for file in files], set[str](), 0
    while misses < 1_000:
        (file,) = random.choices(files, sizes)
        misses += 1
        if not places(file):
            continue
        operator, occurrence = random.choice(random.choice(places(file)))
        source = (SOURCE / file).read_text(encoding="utf-8")
        text = mutate_code(source, OperatorProvider()[operator](), occurrence)
        if text is None or meaning(text) in (None, meaning(source)):
            continue
        lines = zip(source.splitlines(), text.splitlines(), strict=False)
        line, (before, after) = next((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1])
        mutant = Mutant(file, operator, occurrence, line, before.strip(), after.strip(), text)
        if mutant.key not in seen:
            seen.add(mutant.key)
            misses = 0
            yield mutant


def sample(rooms: list[str], n: int, seed: int) -> list[Mutant]:
    """About n mutants, of each room in proportion to the square root of its size; in random order."""
    by_room: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE)
        by_room.setdefault(file.parts[0].removesuffix(".py"), []).append(str(file))
    if unknown := {*rooms} - {*by_room}:
        sys.exit(f"no room {', '.join(unknown)}; there are: {', '.join(by_room)}")
    by_room = {room: files for room, files in by_room.items() if room in rooms or not rooms}
    roots = {room: sum((SOURCE / file).stat().st_size for file in files) ** 0.5 for room, files in by_room.items()}
    result = []
    for room, files in by_room.items():
        mutants = draw(files, random.Random(f"{seed} {room}"))
        result += [
            mutant for _, mutant in zip(range(max(1, round(n * roots[room] / sum(roots.values())))), mutants, strict=False)
        ]
    random.Random(seed).shuffle(result)
    return result


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of leafwing that a file imports, and what it imports from them, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == "leafwing")


def dotted(file: str) -> str:
    return ".".join(["leafwing", *Path(file).with_suffix("").parts]).removesuffix(".__init__")


@cache
def tests_of(file: str) -> list[list[str]]:
    """The arguments of pytest for the tests of a file, one list for each run."""
    tests, stem = (
        [path for path in sorted(TESTS.rglob("test_*.py")) if not SKIPPED.search(path.read_text("utf-8"))],
        Path(file).stem,
    )
    if Path(file).parts[0] == "recipes" and not stem.startswith("_"):
        each = ["tests/test_golden.py", "tests/test_options.py", "tests/test_every_recipe.py", "-k", f"[{stem}] or [{stem}-"]
        own = [test for test in tests if test.parent.name == "recipes" and f'"{stem}"' in test.read_text(encoding="utf-8")]
        return [each, *([[str(test.relative_to(ROOT)) for test in own]] if own else [])]
    modules, near = {dotted(file)}, list[Path]()
    for _ in range(3):
        near = [test for test in tests if stem in test.stem.split("test_")[1] or modules & imports(test)]
        if near:
            break
        modules |= {dotted(str(path.relative_to(SOURCE))) for path in SOURCE.rglob("*.py") if modules & imports(path)}
    near.sort(key=lambda test: (stem not in test.stem, len(imports(test)), test.stem))
    return [[str(test.relative_to(ROOT)) for test in near[:MOST_FILES]]] if near else []


@cache
def tests_by_line(file: str, coverage: Path) -> dict[int, set[str]]:
    """The tests that run each line of a file, as arguments of pytest; a line that is run while importing has none."""
    from coverage import CoverageData  # likewise

    data = CoverageData(str(coverage))
    data.read()
    lines: dict[int, set[str]] = {}
    for measured in data.measured_files():
        if measured.endswith(f"src/leafwing/{file}"):
            for line, contexts in data.contexts_by_lineno(measured).items():
                lines[line] = {context.split("|")[0] for context in contexts if context}
    return lines


def tests_of_line(mutant: Mutant, coverage: Path) -> list[list[str]]:
    """Further tests that run the line of a mutant, first those that run the least of its file; at most two of a kind.

    Of a constant, which is run while importing, those that run the most of the file.
    """
    by_line = tests_by_line(mutant.file, coverage) if coverage.exists() else {}
    near = [line for line in range(max(0, mutant.line - 8), mutant.line + 1) if by_line.get(line)]
    share = Counter(test for tests in by_line.values() for test in tests)
    before = {test for tests in tests_of(mutant.file) for test in tests if "-k" not in tests}
    tests = (by_line[near[-1]] if near else {*share}) - {test for test in share if test.split("::")[0] in before}
    kinds, chosen = Counter[str](), list[str]()
    for test in sorted(tests, key=lambda test: (share[test] if near else -share[test], test)):
        kinds[kind := test.split("[")[0]] += 1
        if kinds[kind] <= 2:
            chosen.append(test)
    return [chosen[:MOST_TESTS]] if chosen else []


def copy_checkout(to: Path) -> Path:
    """The files that git knows, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    return to


def outcome(mutant: Mutant, checkout: Path, coverage: Path) -> str:
    """Whether the tests notice a mutant: noticed, survived, or slow if they take too long to know."""
    result = run_tests(mutant, checkout, tests_of(mutant.file))
    if result == "survived" and (further := tests_of_line(mutant, coverage)):
        result = run_tests(mutant, checkout, further)
    return result


def run_tests(mutant: Mutant, checkout: Path, runs: list[list[str]]) -> str:
    """The outcome of a mutant by some tests: the arguments of pytest, for each run."""
    path, environment = checkout / "src" / "leafwing" / mutant.file, dict(os.environ)
    # Without byte code, because that of a file of the same size and second would be taken for the mutant's.
    environment |= {"PYTHONPATH": str(checkout / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment[MARK] = str(checkout)
    pytest = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    original = path.read_text(encoding="utf-8")
    end = time.monotonic() + SECONDS
    try:
        path.write_text(mutant.text, encoding="utf-8")
        for tests in runs:
            remaining = end - time.monotonic()
            done = subprocess.run(
                [*pytest, *tests], cwd=checkout, env=environment, capture_output=True, timeout=max(1, remaining)
            )
            not_run = done.returncode == 5 or b"ERROR: not found: " in done.stderr  # a test whose name has changed since
            if done.returncode and not not_run:
                return "noticed"
        return "survived"
    except subprocess.TimeoutExpired:
        return "slow"
    finally:
        path.write_text(original, encoding="utf-8")
        end_processes(f"{MARK}={checkout}")


def end_processes(mark: str) -> None:
    """Kills what tests have left running, such as the trainings of a comparison whose test took too long.

    They are known by a variable that all inherit, where the system shows it (Linux).
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def report(rows: list[dict[str, object]]) -> str:
    """The share of mutants that were noticed, by room, and those that were not."""
    cells: list[tuple[str, ...]] = [("room", "mutants", "noticed", "survived", "slow", "score")]
    for room in [*sorted({str(row["room"]) for row in rows}), ""]:
        outcomes = [row["outcome"] for row in rows if room in ("", row["room"])]
        counts = [outcomes.count(one) for one in ("noticed", "survived", "slow")]
        score = f"{counts[0] / max(1, counts[0] + counts[1]):.0%}"
        cells.append((room or "all", str(len(outcomes)), *map(str, counts), score))
    survivors = [
        f"{row['file']}:{row['line']}  {row['before']}  ->  {row['after']}" for row in rows if row["outcome"] == "survived"
    ]
    return "\n".join([align_columns(cells), "", *sorted(survivors)])


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--n", type=int, default=320, help="number of mutants")
    parser.add_argument("--rooms", default="", help="only of these, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time, each on one core")
    parser.add_argument("--minutes", type=float, default=60, help="after which no further mutant is begun")
    parser.add_argument(
        "--coverage", type=Path, default=ROOT / ".coverage", help="which tests run which lines (default: .coverage)"
    )
    parser.add_argument("--again", action="store_true", help="run mutants again that survived or were slow")
    args = parser.parse_args()
    mutants = sample([*filter(None, args.rooms.split(","))], args.n, args.seed)
    lines = args.results.read_text(encoding="utf-8").splitlines() if args.results.exists() else []
    rows = {row["key"]: row for row in map(json.loads, lines) if not args.again or row["outcome"] == "noticed"}
    end, checkouts, about = time.monotonic() + 60 * args.minutes, SimpleQueue[Path](), versions()

    def run(mutant: Mutant) -> None:
        if mutant.key in rows or time.monotonic() > end:
            return
        checkout, start = checkouts.get(), time.monotonic()
        result = outcome(mutant, checkout, args.coverage)
        checkouts.put(checkout)
        names = ("file", "line", "operator", "before", "after", "room", "key")
        row = {"bench": "mutants", **{name: getattr(mutant, name) for name in names}, "outcome": result}
        row |= about
        rows[mutant.key] = row | {"seconds": round(time.monotonic() - start, 1)}
        store(rows[mutant.key], args.results)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        for job in range(args.jobs):
            checkouts.put(copy_checkout(Path(folder) / str(job)))
        list(pool.map(run, mutants))
    print(report([rows[mutant.key] for mutant in mutants if mutant.key in rows]))


if __name__ == "__main__":
    main()
