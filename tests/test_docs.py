"""The documentation is correct: its links have targets, its commands exist, its examples run; and every benchmark has help."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import leafwing
import losses
import tables
import troubles
from leafwing import cli, commands, game
from leafwing.cli.train import CALL_OPTIONS
from leafwing.errors import LeafwingError

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """The path of a page inside the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return [text for _, kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "code", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def command_lines() -> Iterator[tuple[Path, str]]:
    """Every line of the guide's bash blocks that calls leafwing."""
    for page in GUIDE:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(\w+=\S+ )*(\S*/)?leafwing ", line):
                    yield page, line


LINES = list(command_lines())


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of your-own-gan.md as a file in a new current folder, with the folder of examples."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (text,) = (text for text in blocks(ROOT / "docs/guide/your-own-gan.md", "python") if text.startswith('"""DRAGAN.'))
    path = tmp_path / "dragan.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of 12 small images."""
    folder = tmp_path / "cats"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_pages_and_commands_are_found() -> None:
    assert len(GUIDE) >= 7
    assert len(LINES) >= 20


def links(page: Path) -> list[str]:
    """The links and pictures of a page that are not on the web, in Markdown or HTML."""
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose(page))
    return [link for pair in found for link in pair if link and not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_have_targets(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert not anchor or anchor in anchors(target), f"{link}: {path or 'this page'} has no heading {anchor}"


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(LINES)])
def test_commands_and_options_exist(page: Path, line: str, example: Path) -> None:
    words = shlex.split(line, comments=True)
    while not words[0].endswith("leafwing"):
        words.pop(0)
    words.pop(0)
    arguments = [word for word in words if word not in ("--help", "--help-all", "--version")]
    if arguments != words and len(arguments) < 2:
        return  # only --help or --version
    if arguments[0] == "train" and arguments[1:2] and arguments[1].startswith("--"):
        arguments.insert(1, "digits")  # --help and --from need no source
    if arguments[0] == "explore" and len(arguments) == 2:
        arguments.insert(1, "last")  # --help needs no run
    without_from = [word for word in arguments if word != "--from"]  # there is no such run
    command, _, unused = cli.commands_for(without_from).parse_args(arguments, exit_on_error=False, print_error=False)
    assert command.__module__ == f"leafwing.cli.{arguments[0]}"
    assert not unused


@pytest.mark.parametrize("page", GUIDE, ids=name)
def test_python_is_valid(page: Path) -> None:
    for i, text in enumerate(blocks(page, "python")):
        compile(text, f"{page.name}, block {i}", "exec")


def test_the_translators_of_the_guide_are_the_example_and_the_recipe() -> None:
    """Its blocks are parts of these files, which other tests train; only their indentation may differ."""
    page = (ROOT / "docs/guide/your-own-gan.md").read_text(encoding="utf-8")
    section = page.partition("\n## A translator\n")[2].partition("\n## ")[0]
    parts = [text for _, kind, text in FENCE.findall(section) if kind == "python"]
    files = [ROOT / "examples/distance_gan.py", ROOT / "src/leafwing/recipes/cyclegan.py"]
    code = " ".join(" ".join(file.read_text(encoding="utf-8").split()) for file in files)
    assert len(parts) >= 5
    assert [text for text in parts if " ".join(text.split()) not in code] == []


@pytest.mark.parametrize("name", ["Player", "Round", "Term", "Turn", "Game", "Output", "Abilities", "Clock"])
def test_signatures_of_the_words_are_those_of_the_code(name: str) -> None:
    page = (ROOT / "docs" / "guide" / "words.md").read_text("utf-8")
    line = re.search(rf"^{name}\((.*?)\)(?:$|   )", page, re.MULTILINE)
    assert line, name
    written = re.findall(r"(?:^|, )(?:\*\*)?([a-z_]+)(?==|,|$)", re.sub(r"=\([^)]*\)|=\{\}|=\[\]", "=", line[1]))
    assert written == [*inspect.signature(getattr(game, name)).parameters]


def test_the_keys_of_the_doctors_report_are_on_its_page() -> None:
    section = (ROOT / "docs" / "guide" / "commands.md").read_text("utf-8").partition("\n## doctor")[2].partition("\n## ")[0]
    keys = re.findall("`([a-z_]+)`", section.partition("With `--json`:")[2].partition("The exit")[0])
    assert keys == [*leafwing.doctor("digits", progress=False).as_dict()]


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/guide/commands.md").read_text(encoding="utf-8")
    for verb in (
        "train",
        "resume",
        "sample",
        "translate",
        "walk",
        "reel",
        "runs",
        "recipes",
        "doctor",
        "evaluate",
        "compare",
        "show",
        "prepare",
        "explore",
    ):
        assert f"## {verb}\n" in text
    for option in CALL_OPTIONS:
        assert f"`--{option.replace('_', '-')}`" in text, f"train's --{option} is not explained"
    assert tables.update_tables(text) == text, "the settings have changed: run `make docs`"


def test_the_example_of_a_recipe_trains_resumes_and_samples(example: Path, source: Path) -> None:
    small = {"width": 8, "max_width": 16, "latent": 8, "batch": 8}
    run = leafwing.train(
        source, example.name, size=16, images=16, out="run", device="cpu", precision="fp32", threads=1, **small
    )
    assert run.records()[-1]["losses"].keys() == {"D/adversarial", "D/local_penalty", "G/adversarial"}
    with pytest.raises(LeafwingError, match="not an installed recipe"):
        leafwing.resume("run", images="+8")
    resumed = leafwing.resume("run", images="+8", trust=True)
    assert resumed.records()[-1]["images"] == 24
    samples = leafwing.Model.load("run", trust=True).sample(3, seed=1)
    assert samples.shape == (3, 3, 16, 16)
    assert commands.sample("run", 4, trust=True).is_file()


def test_the_example_of_a_term_is_right(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(example.parent)
    monkeypatch.delitem(sys.modules, "dragan", raising=False)
    (text,) = (text for text in blocks(ROOT / "docs/guide/your-own-gan.md", "python") if "from dragan import" in text)
    exec(compile(text, "your-own-gan.md", "exec"), {})


def test_every_benchmark_explains_itself() -> None:
    """Imports every file of bench/ and prints its help, in one process."""
    code = """
import importlib, sys
sys.path.insert(0, "bench")
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    assert module.__doc__, name
    sys.argv = [name, "--help"]
    try:
        getattr(module, "main", sys.exit)()
    except SystemExit as end:
        assert not end.code, name
"""
    names = [path.stem for path in sorted((ROOT / "bench").glob("*.py"))]
    ended = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    helps = ended.stdout.split("usage: ")[1:]
    assert {text.split()[0] for text in helps} == {*names} - {"alternate"}
    for text in helps:
        undocumented = re.findall(r"^  (-{0,2}[\w-]+(?: [A-Z_]+)?)$\n(?! {10})", text, re.MULTILINE)
        assert undocumented == [], text.split()[0]


def test_pictures_are_small_and_on_a_page() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".webp", ".gif", ".jpg", ".svg")]
    assert len(pictures) >= 10
    assert [path.name for path in pictures if path.stat().st_size > 300_000] == []
    assert [path.name for path in pictures if path not in shown] == []


def test_a_fault_of_a_training_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "COMMON", "--size 16 --width 8 --batch 16 --threads 1 --device cpu")
    results = tmp_path / "rows.jsonl"
    troubles.train(Path("digits"), "--recipe dcgan --images 16", tmp_path / "run", results, "short")
    row = json.loads(results.read_text(encoding="utf-8"))
    assert (row["case"], row["images"]) == ("short", 16)
    assert row["health"] in ("0 checks, no alarms", "1 check, no alarms")


def test_what_the_monitor_said_is_in_the_row() -> None:
    assert (
        troubles.describe_alarms([{"images": 230, "losses": {}, "diverged": "not a number"}])
        == "not a number (230 to the end)"
    )


def test_every_fault_of_a_training_has_its_picture_and_options_on_the_page() -> None:
    page = (ROOT / "docs/guide/troubles.md").read_text(encoding="utf-8")
    assert {path.stem for path in troubles.FOLDER.glob("*.png")} == {*troubles.FAULTS, "progress"}
    for fault in troubles.FAULTS:
        assert f"](troubles/{fault}.png)" in page


def test_pictures_of_losses_are_small_and_on_the_page() -> None:
    page = (ROOT / "docs/guide/health.md").read_text(encoding="utf-8")
    assert {path.stem for path in losses.FOLDER.glob("*.svg")} == losses.TRAININGS.keys()
    for name, training in losses.TRAININGS.items():
        text = (losses.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
        assert len(text) < 30_000
        assert ElementTree.fromstring(text)[0].text == training.title
        assert f"](losses/{name}.svg)" in page


def test_a_picture_of_losses_has_both_modes_and_names_its_curves() -> None:
    text = losses.svg(
        "A & B", [losses.curves.Line("D/a<b", 0, [(0, 1.0), (10, 2.0)]), losses.curves.Line("G/x", 1, [(0, 3.0), (10, 1.0)])]
    )
    root = ElementTree.fromstring(text)
    names = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert root[0].text == "A & B"
    assert {"D/a<b", "G/x", "images"} <= {*names}
    assert sum(element.tag.endswith("polyline") for element in root) == 2
    assert "prefers-color-scheme: dark" in text
