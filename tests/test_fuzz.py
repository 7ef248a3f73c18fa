"""Damaged files of every kind that is read, and unusual values of every option: an answer in one sentence, and nothing changes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
import signal
import struct
import tarfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saved_run
from hostile import NUMBERS, OPTION_VALUES, mutate
from leafwing import cli, data, fields, health, weights_file
from leafwing.cli.streams import Steady
from leafwing.commands.comparison import record
from leafwing.commands.evaluate import fingerprint_of
from leafwing.data import annotations
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory import TOOLS, complete, dropout
from leafwing.laboratory.latents import load_latents
from leafwing.loop import Training
from leafwing.metrics import inception, own, scale
from leafwing.metrics.samples import read_features, write_features
from leafwing.model import Model
from leafwing.runs import Run

resource = pytest.importorskip("resource", reason="limits of memory are those of Linux")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory are those of Linux"),
]
MUTATIONS, BY_COMMANDS, VALUES = 120, 30, 2
"""Damaged versions of each file, and of each that whole commands read; values of each option of each command line."""
MEMORY = 2 << 30
"""Bytes that the process may need in addition while it reads damaged files."""
SECONDS = 120
"""Processor time that a single attempt may take: what takes longer does not end."""
SMALL = "--recipe cgan --size 16 --width 4 --max-width 8 --latent 4 --batch 4 --images 32 --threads 1"
TRAINING = f"{SMALL} --save-every 16 --log-every 8 --grid-every 16 --keep-last 2 --health rollback"
END = "as far as this test goes"


@dataclass(frozen=True)
class World:
    """Valid files of every kind below a folder; the run has shown 32 of 64 images, with health checks and copies for rollbacks."""

    folder: Path
    run: Path
    source: Path
    model: Model


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small files are written: whether they survive a power failure does not matter here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    source = folder / "pictures"
    source.mkdir()
    for number in range(8):
        Image.fromarray(pixels(number)).save(source / f"{number}.png")
    (source / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(8)))
    run = folder / "runs" / "trained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "CHECK_INTERVAL", 2)
        assert answer(["train", str(source), *TRAINING.split(), "--out", str(run)])[0] == 0
    assert answer(["evaluate", str(run), "--metrics", "swd,memorisation", "--features", "pixels", "--n", "8"])[0] == 0
    opened = Run(run)
    opened.update(replace(opened.settings, schedule=replace(opened.settings.schedule, images=64)))
    assert sum("health" in record for record in opened.records()) == 4
    return World(folder, run, source, Model.load(opened))


class TooLongError(BaseException):
    """An attempt does not end."""


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    """Raises TooLongError after SECONDS of processor time."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def answer(words: list[str]) -> tuple[int, str]:
    """The exit code of a command line in this process, and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(Steady(out, escapes=True)), contextlib.redirect_stderr(out):  # type: ignore[type-var]
        try:
            code = cli.run(words)
        except SystemExit as error:
            code = int(error.code or 0)
    return code, out.getvalue()


def state(folder: Path, besides: Path | None = None) -> dict[str, str]:
    """The hash of every file below a folder but one."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != besides and path.name != ".lock")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Lets larger allocations fail at once, and checks that the peak stays below the limit where the system forgets earlier peaks."""
    before = forget_peak()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + 4 * MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert before is None or peak() - before < MEMORY


def forget_peak() -> int | None:
    """Makes the memory that this process has now its peak, and returns it in bytes; None where the system cannot do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return peak()
    except (OSError, StopIteration):
        return None


def peak() -> int:
    """The most memory in bytes that this process had since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10


def check_printed(text: str) -> None:
    """Output is shown on a terminal: it has no control characters, and none of torch's advice."""
    strange = {char for char in text if not char.isprintable() and char not in "\n\r\t"}
    assert not strange, (strange, text)
    assert "weights_only" not in text, "no advice to execute what a file contains"


def check_reading(read: Callable[[], Any], where: str, unchanged: Callable[[Any], bool] | None = None) -> None:
    """Reads a damaged file: either the result is valid, or there is one sentence about it."""
    try:
        result = read()
    except LeafwingError as error:
        text = error.for_command_line()
        check_printed(text)
        assert len(text) < 5_000, where
    else:
        assert unchanged is None or unchanged(result), where


def fuzz(path: Path, attempt: Callable[[str], None], n: int = MUTATIONS) -> None:
    """Calls `attempt` with the file in each of n damaged versions, in the same place; afterwards the file is restored."""
    content = path.read_bytes()
    failures: dict[str, str] = {}
    try:
        with limited_memory():
            for seed in range(n):
                path.write_bytes(mutate(content, path.name, seed))
                try:
                    with limited_time():
                        attempt(f"{path.name} {seed}")
                except (Exception, TooLongError) as error:
                    failures.setdefault(describe(error), f"seed {seed}")
    finally:
        path.write_bytes(content)
    assert not failures, "\n".join(f"{seed}: {text}" for text, seed in failures.items())


def describe(error: BaseException) -> str:
    """The type of an error, the last line of leafwing that it passed, and the beginning of its message."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    place = next((f"{frame.filename}:{frame.lineno}" for frame in frames if "leafwing" in frame.filename), "")
    return f"{type(error).__name__} {place} {str(error)[:200]!r}"


LIST, SAMPLE, RESUME = ["runs", "--root", "ROOT"], ["sample", "RUN", "-n", "2", "--out", "OUT.png"], ["resume", "RUN"]
EVALUATE = ["evaluate", "RUN", "--metrics", "swd,memorisation", "--features", "pixels", "--n", "8"]
REEL, AGAIN = ["reel", "RUN", "--out", "OUT.gif"], ["train", "--from", "RUN", "--threads", "1"]
RUN_FILES = {
    "run.json": [LIST, SAMPLE, RESUME, EVALUATE, REEL, AGAIN],
    "log.jsonl": [LIST, RESUME],
    "metrics.jsonl": [LIST, EVALUATE],
    "weights-000000032.safetensors": [SAMPLE, RESUME],
    "resume.pt": [RESUME],
    "recipe.py": [LIST, SAMPLE],
    "samples/000000032.png": [REEL],
}
"""Files of a run, and command lines that read them. They train no round, and an evaluation has stored figures."""


def stop(*arguments: Any, **options: Any) -> Any:
    raise LeafwingError(END)


@pytest.mark.parametrize("name", RUN_FILES)
def test_damaged_files_of_a_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Training, "ticks", stop)
    monkeypatch.setattr(Run, "create", stop)
    run = tmp_path / "runs" / "trained"
    shutil.copytree(world.run, run)
    replaced = {
        "RUN": str(run),
        "ROOT": str(tmp_path / "runs"),
        **{f"OUT{end}": str(tmp_path / f"out{end}") for end in OUTS},
    }
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def attempt(where: str) -> None:
        damaged, before = (run / name).read_bytes(), state(run)
        for words in RUN_FILES[name]:
            try:
                code, text = answer([replaced.get(word, word) for word in words])
                assert code in (0, 2), (where, words[0], text)
                assert "Traceback" not in text, (where, words[0])
                source = (run / "recipe.py").read_text(errors="replace") if name == "recipe.py" else ""
                check_printed(text.replace(source, "") if source else text)
                assert code == 0 or END in text or damaged != files[run / name], (where, words[0], text)
                wrote = END in text or (words is EVALUATE and code == 0)
                assert wrote or state(run) == before, (where, words[0])
            finally:
                for path in {*run.rglob("*"), *files}:
                    if path not in files and path.is_file():
                        path.unlink()
                    elif path in files and not (path.exists() and path.read_bytes() == files[path]):
                        path.write_bytes(files[path])
                (run / name).write_bytes(damaged)
                for end in OUTS:
                    (tmp_path / f"out{end}").unlink(missing_ok=True)

    attempt(f"{name} as it was")
    fuzz(run / name, attempt, BY_COMMANDS)


OUTS = (".png", ".gif", "")
ENDING = ("dropout", "sift")
"""Tools that end because eight pictures without boxes are too little for them."""
COMMANDS = [
    f"train SOURCE {SMALL}",
    "train --from RUN",
    "sample RUN --n 2 --out OUT.png",
    "sample RUN --folder --n 2 --out OUT",
    "sample RUN --seeds 3 --out OUT",
    "walk RUN --out OUT.gif",
    "reel RUN --out OUT.gif",
    "show SOURCE --out OUT.png",
    "doctor SOURCE",
    "evaluate RUN --metrics ms_ssim --n 4",
    "translate TRANSLATOR SOURCE --trust --out OUT",
    "compare SOURCE --recipes cgan,dcgan --size 16 --images 32 --seeds 1 --out OUT",
    "prepare SOURCE --boxes LIST --smallest 4 --out OUT",
    "resume RUN",
    "score RUN SOURCE",
    "runs --root ROOT",
    *(
        f"explore RUN {tool} --out OUT"
        for tool in TOOLS
        if tool not in ("invert", "complete", "edit", "directions", *ENDING)
    ),
    *(f"explore RUN {tool} --out OUT" for tool in ENDING),
    "explore RUN directions --k 2 --out OUT",
    "explore RUN invert --pictures 1 --steps 1 --out OUT",
    "explore RUN complete --pictures 1 --steps 1 --out OUT",
    "explore RUN edit --paint red,2,2,9,9 --steps 1 --candidates 2 --out OUT",
]
"""Command lines of which one option at a time gets an unusual value. Tools end where they would use a network."""
TRANSLATE = 'Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",))'


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = DataSpec.images(16, 16, 3, input=fields.Image(16, 16, 3))
    return saved_run.save(tmp_path_factory.mktemp("translator") / "run", spec, TRANSLATE)


@pytest.mark.parametrize("line", COMMANDS)
def test_unusual_values_of_options(
    world: World, translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (
        "runs.Run.create", "runs.Run.update", "commands.training.run_session", "commands.launching.launch", "films.write",
        "commands.comparison.compare.open_record",
    ):  # fmt: skip
        monkeypatch.setattr(f"leafwing.{place}", stop)
    if line.startswith("explore"):
        monkeypatch.setattr("torch.nn.Linear.forward", stop)
        monkeypatch.setattr("torch.nn.Conv2d.forward", stop)
    listed = tmp_path / "boxes.csv"
    listed.write_text("file,left,top,width,height\n" + "".join(f"{i}.png,2,3,9,9\n" for i in range(8)))
    replaced = {"RUN": world.run, "SOURCE": world.source, "LIST": listed, "TRANSLATOR": translator, "ROOT": world.run.parent}
    replaced |= {f"OUT{end}": tmp_path / f"out{end}" for end in OUTS}
    words = [str(replaced.get(word, word)) for word in line.split()]
    collection = cli.commands_for(words)[words[0]].assemble_argument_collection()
    named = [max(item.names, key=len) for item in collection if item.hint not in (bool, bool | None)]
    names = [name for name in named if name.startswith("--") and (name != "--root" or name in words)]
    before, rng = state(world.folder), random.Random(line)
    metrics = world.run / "metrics.jsonl"
    rows = metrics.read_bytes()
    failures: dict[str, str] = {}

    def clear() -> None:
        for path in tmp_path.glob("out*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def attempt(name: str, value: str) -> None:
        others = [*words]
        if name in others:
            del others[others.index(name) : others.index(name) + 2]
        with limited_time():
            code, text = answer([*others, f"{name}={value}"])
        assert code in (0, 2), text
        assert "Traceback" not in text
        check_printed(text)

    code, text = answer(words)
    assert code == 0 or END in text or words[2:3] in ([tool] for tool in ENDING), text
    clear()
    with limited_memory():
        for name in names:
            for value in (rng.choice(NUMBERS), *rng.sample(OPTION_VALUES, VALUES - 1)):
                try:
                    attempt(name, value)
                except (Exception, TooLongError) as error:
                    failures.setdefault(describe(error), f"{name}={value[:60]!r}")
                clear()
    for folder in ("outputs", "explore", "translations"):
        shutil.rmtree(world.run / folder, ignore_errors=True)
    assert not failures, "\n".join(f"{case}: {text}" for text, case in failures.items())
    after = state(world.folder)
    assert {path for path in {*before, *after} if after.get(path) != before.get(path)} <= {str(metrics)}
    assert metrics.read_bytes().startswith(rows)  # `evaluate` appends
    metrics.write_bytes(rows)


def build_sources(folder: Path) -> dict[str, Path]:
    """One source for each kind of file: its name and the file that is damaged."""
    images = np.stack([pixels(number) for number in range(8)])
    targets: dict[str, Path] = {}

    def source(kind: str) -> Path:
        inside = folder / kind
        inside.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(images[number]).save(inside / f"{number}.png")
        return inside

    for format in ("png", "jpg", "gif", "webp", "bmp", "tiff", "ppm", "jp2"):
        Image.fromarray(images[7]).save(path := source(format) / f"x.{format}")
        targets[format] = path
    texts = {
        "labels.csv": "file,label,smiling\n" + "".join(f"{i}.png,{'ab'[i % 2]},{i % 2}\n" for i in range(4)),
        "captions.csv": "file,caption\n" + "".join(f"{i}.png,a {('red', 'blue')[i % 2]} star\n" for i in range(4)),
        "captions.json": json.dumps({f"{i}.png": ["a red star", f"number {i}"] for i in range(4)}),
        "dataset.json": json.dumps({"labels": [[f"{i}.png", i % 2] for i in range(4)]}),
        "boxes.csv": "file,left,top,width,height\n" + "".join(f"{i}.png,2,3,{5 + i},6\n" for i in range(4)),
        "keypoints.csv": "file,name,x,y\n" + "".join(f"{i}.png,{p},{3 + i},4\n" for i in range(4) for p in ("beak", "tail")),
        "list_attr_celeba.txt": "4\nold smiling\n" + "".join(f"{i}.png {(1, -1)[i % 2]} 1\n" for i in range(4)),
        "pairs.csv": "input,image\n" + "".join(f"{i}.png,{3 - i}.png\n" for i in range(2)),
        "metadata.jsonl": "".join(json.dumps({"file_name": f"{i}.png", "text": f"a star {i}"}) + "\n" for i in range(4)),
    }
    for name, text in texts.items():
        targets[name] = source(f"with {name}") / name
        targets[name].write_text(text)
    voc = "<annotation><size><width>20</width><height>20</height></size><object><name>star</name><bndbox><xmin>2</xmin>"
    voc += "<ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    inside = source("voc")
    for number in range(4):
        (inside / f"{number}.xml").write_text(voc)
    targets["voc.xml"] = inside / "0.xml"
    single = folder / "single"
    single.mkdir()
    files = sorted(source("members").iterdir())
    with zipfile.ZipFile(single / "a.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    archives: list[tuple[str, Any]] = [("tar", "w"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")]
    for ending, mode in archives:
        with tarfile.open(single / f"a.{ending}", mode) as tar:
            for file in files:
                tar.add(file, file.name)
    with tarfile.open(single / "samples.tar", "w") as tar:  # as WebDataset has them
        for file in files:
            tar.add(file, file.name)
            for suffix, text in (("cls", f"{int(file.stem) % 2}"), ("json", '{"caption": "a star"}')):
                info = tarfile.TarInfo(f"{file.stem}.{suffix}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    np.save(single / "a.npy", images)
    np.savez_compressed(single / "a.npz", images=images, labels=np.arange(8) % 2)
    (single / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 8, 20, 20) + images[..., 0].tobytes())
    (single / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 8) + bytes(i % 2 for i in range(8)))
    with contextlib.suppress(ImportError):
        import h5py

        with h5py.File(single / "a.h5", "w") as file:
            file["images"], file["labels"] = images, np.arange(8) % 2
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        encoded = [file.read_bytes() for file in files]
        table = pyarrow.table({"image": [{"bytes": part, "path": None} for part in encoded], "label": [0, 1, 0, 1]})
        parquet.write_table(table, single / "a.parquet")
    return targets | {path.name: path for path in single.iterdir()}


SOURCES = [
    "png", "jpg", "gif", "webp", "bmp", "tiff", "ppm", "jp2", "labels.csv", "list_attr_celeba.txt", "pairs.csv", "samples.tar",
    "captions.csv", "captions.json", "dataset.json", "boxes.csv",
    "keypoints.csv", "metadata.jsonl", "voc.xml", "a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.npy", "a.npz",
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "a.h5", "a.parquet",
]  # fmt: skip


@pytest.mark.parametrize("kind", SOURCES)
def test_damaged_sources(tmp_path: Path, kind: str) -> None:
    path = build_sources(tmp_path)[kind]
    place = path.parent if path.parent.name != "single" else path
    if kind == "train-labels-idx1-ubyte":
        place = path.with_name("train-images-idx3-ubyte")

    def read() -> Any:
        dataset = data.load(place, size=16, cache=tmp_path / "cache", input=kind if kind == "pairs.csv" else None)
        return dataset.to_network(dataset.batch(0, 0, 4))

    fuzz(path, lambda where: check_reading(read, where))
    assert read().n == 4


CACHE = ("pack.json", "index.json", "pictures.npy", "labels.npy", "attributes.npy", "listing.json")


@pytest.mark.parametrize("name", CACHE)
def test_damage_in_the_cache_never_reaches_a_training(tmp_path: Path, name: str) -> None:
    source, cache = build_sources(tmp_path)["labels.csv"].parent, tmp_path / "cache"

    def read() -> Any:
        dataset = data.load(source, size=16, cache=cache)
        return dataset.spec, dataset.batch(0, 0, 4), dataset.rejects

    spec, batch, rejects = read()
    (pack,) = (cache / "packs").iterdir()
    path = pack / name if name != "listing.json" else next((cache / "listings").iterdir())

    def same(result: Any) -> bool:
        equal = result[1].keys() == batch.keys() and all(torch.equal(result[1][key], batch[key]) for key in batch)
        return equal and result[0] == spec and result[2] == rejects

    fuzz(path, lambda where: check_reading(read, where, same))


def test_damaged_files_that_tools_and_comparisons_read(world: World, tmp_path: Path) -> None:
    small = np.zeros((4, 4), np.float32)
    np.save(tmp_path / "latents.npy", small)
    np.savez(tmp_path / "latents.npz", latents=small)
    Image.fromarray(np.uint8(np.eye(16) * 255)).save(tmp_path / "mask.png")
    (tmp_path / "boxes.json").write_text('{"3": [1, 2, 3, 4], "5": [[1, 2, 3, 4], [2, 2, 4, 4]]}')
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    (tmp_path / "compare.json").write_text(json.dumps(COMPARISON))
    readers: dict[str, Callable[[Path], Any]] = {
        "latents.npy": lambda path: load_latents(world.model, path),
        "latents.npz": lambda path: load_latents(world.model, path),
        "mask.png": lambda path: complete._mask(path, world.model, 0),
        "boxes.json": lambda path: dropout.read_boxes(path, world.model),
        "coco.json": read_coco,
        "compare.json": record.load,
    }
    shutil.copy(next(world.run.glob("memorisation-*.json")), tmp_path / "memorisation.json")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "inception.pth")
    shutil.copy(world.run / "resume-000000016.pt", tmp_path / "resume-000000016.pt")
    readers |= {
        "memorisation.json": fingerprint_of,
        "inception.pth": inception.read,
        "resume-000000016.pt": Run(world.run).read_state,
    }
    for name, reader in readers.items():
        path = tmp_path / name
        fuzz(path, lambda where, path=path, reader=reader: check_reading(lambda: reader(path), where))
        reader(path)


def test_damage_in_the_cache_never_reaches_an_evaluation(tmp_path: Path) -> None:
    """What is damaged is as if it were not there."""
    net = own.Network(DataSpec.images(8, 8, 3), 0)
    (tmp_path / "own.safetensors").write_bytes(weights_file.serialise(net.state_dict(), digest="d"))
    scale.write(tmp_path / "scale.json", scale.Scale({"fid": 1.5}, {"fid": 9.5}, "halves", 8, 8, 8))
    write_features(tmp_path / "features.npy", np.arange(12, dtype=np.float32).reshape(4, 3))

    def weights(path: Path) -> Any:
        facts = own.load_weights(net, path)
        return facts and (facts, [value.tolist() for value in net.state_dict().values()])

    def numbers(path: Path) -> Any:
        features = read_features(path)
        return None if features is None else features.tolist()

    def ends(path: Path) -> Any:
        return (stored := scale.read(path)) and asdict(stored)

    readers: dict[str, Callable[[Path], Any]] = {
        "own.safetensors": weights,
        "scale.json": ends,
        "features.npy": numbers,
    }
    for name, reader in readers.items():
        path = tmp_path / name
        valid = reader(path)
        assert valid

        def attempt(where: str, path: Path = path, reader: Callable[[Path], Any] = reader, valid: Any = valid) -> None:
            assert reader(path) in (None, valid), where

        fuzz(path, attempt)


def test_a_damaged_note_of_samples_by_seeds(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    words = ["sample", str(world.run), "--seeds", "1", "--out", str(folder)]
    assert answer(words)[0] == 0

    def attempt(where: str) -> None:
        code, text = answer(words)
        assert code in (0, 2), (where, text)
        check_printed(text)

    fuzz(folder / "seeds.json", attempt, BY_COMMANDS)


COCO = {
    "images": [{"id": 1, "file_name": "0.png", "width": 20, "height": 20}],
    "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1}],
    "categories": [{"id": 1, "name": "star"}],
}
RATING = {
    "metric": "kid",
    "images": 8,
    "value": 0.5,
    "low": 0.4,
    "high": 0.6,
    "better": "lower",
    "protocol": {},
    "fingerprint": "f",
}
COMPARISON = {
    "command": "leafwing compare ring",
    "asked": {
        "source": "ring", "data": {"size": 16}, "fingerprint": "f", "held_out": 8, "images": 600, "minutes": None, "device": "cpu",
    },
    "recipes": {"gan": {"reference": "gan", "options": {"batch": 8, "lr_g": 1e-4}, "digest": ""}},
    "seeds": [0, 1],
    "images": {"gan": 600},
    "threads": 1,
    "runs": {"gan-seed0": {"processor": 1.5, "status": "finished", "said": "", "evaluation": {"n": 8}, "numbers": [RATING]}},
    "features": "own",
    "checkpoints": 8,
    "costs": {"gan": {"training": 0.1, "evaluation": 0.1, "start": 2.0}},
}  # fmt: skip


def read_coco(path: Path) -> Any:
    from leafwing.data.sources import list_files, open_folder

    source = open_folder(path.parent, *list_files(path.parent))
    source.entries = [type(source.entries[0])("0.png", None, 0)]
    return annotations.read(source, "boxes", str(path))
