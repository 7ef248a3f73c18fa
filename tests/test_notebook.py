"""Python and notebooks: progress is shown without being asked for, and results show themselves; without IPython nothing breaks."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bare_run
import leafwing
import saved_run
from leafwing import files, notebook
from leafwing.commands import results
from leafwing.commands.comparison.compare import Comparison
from leafwing.commands.explore import Exploration
from leafwing.commands.prepare import Preparation
from leafwing.commands.results import ContactSheet, Rows, Written
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.pictures import png, to_image
from leafwing.progress import ConsoleReporter, NotebookReporter, Reporter, reporter_of
from leafwing.runs import Run

TINY: dict[str, Any] = {"size": 16, "width": 4, "batch": 8, "images": 16, "threads": 1}
IMAGE = png(to_image(torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()))


class Screen:
    """What a notebook shows below a cell: the content of every display, as last updated."""

    def __init__(self) -> None:
        self.contents: list[dict[str, str]] = []

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        number = len(self.contents)
        self.contents.append(content)

        def update(content: dict[str, str], *, raw: bool) -> None:
            assert raw
            self.contents[number] = content

        return SimpleNamespace(update=update)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A running notebook, whose IPython has only what leafwing uses."""
    screen, ipython, display = Screen(), ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return screen


@pytest.fixture
def no_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock of the display, as a list of one number."""
    now = [1000.0]
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now  # type: ignore[return-value]


# --- which display --------------------------------------------------------------------------------------------------------


def test_progress_is_shown_unless_it_is_false(no_ipython: None) -> None:
    assert type(reporter_of(None)) is type(reporter_of(True)) is ConsoleReporter
    assert type(reporter_of(False)) is Reporter
    own = Reporter()
    assert reporter_of(own) is own
    with pytest.raises(LeafwingError, match=r"progress='yes': give True, False or a leafwing\.Reporter"):
        reporter_of("yes")  # type: ignore[arg-type]


def test_a_notebook_is_recognised_and_an_ipython_in_a_terminal_is_none(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(reporter_of(None)) is NotebookReporter
    for shell in (None, SimpleNamespace()):
        monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda shell=shell: shell)
        assert type(reporter_of(None)) is ConsoleReporter


def test_training_and_evaluation_show_their_progress_and_nothing_if_silent(
    no_ipython: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = leafwing.train("digits", "dcgan", out=tmp_path / "run", **TINY)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"run folder: {tmp_path / 'run'}\n")
    assert "16/16 images" in err
    leafwing.evaluate(run, metrics="swd", n=8)
    assert "compared with the training images" in capfd.readouterr().err
    leafwing.resume(run, images="+8", progress=False)
    leafwing.evaluate(run, metrics="swd", n=8, progress=False)
    assert capfd.readouterr() == ("", "")


# --- bars in notebooks ----------------------------------------------------------------------------------------------------


def test_training_in_a_notebook_is_one_bar_that_is_updated(
    screen: Screen, seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = reporter_of(None)
    with reporter.training(0, 3000, None):
        assert screen.contents[0]["text/plain"] == "0/3,000 images"
        for images in (1000, 2000):
            seconds[0] += 2
            reporter.after_turn(images)
        assert screen.contents[0]["text/plain"] == "2,000/3,000 images  500 images/s  2s left"
        reporter.tick({"images": 3000, "losses": {"D/adversarial": 1.0, "D/penalty": 0.5, "G/adversarial": 0.25}})
    (content,) = screen.contents
    assert content["text/plain"].endswith("D 1.5  G 0.25")
    assert '<progress value="3000" max="3000"' in content["text/html"]
    assert capsys.readouterr() == ("", "")


def test_every_long_operation_in_a_notebook_has_a_bar_with_escaped_text(screen: Screen, seconds: list[float]) -> None:
    reporter = reporter_of(None)
    for what in ("reading <b>", "features"):
        for done in (1, 2):
            seconds[0] += 1
            reporter.report_progress(what, done, 2)
    reporter.report_progress("too short to be seen", 5, 5)
    assert [content["text/plain"] for content in screen.contents] == ["reading <b>: 2 of 2", "features: 2 of 2"]
    assert "reading &lt;b&gt;: 2 of 2" in screen.contents[0]["text/html"]


def test_messages_in_a_notebook_are_plain_output_and_warnings_are_not(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notebooks have a red background for standard error."""
    reporter = reporter_of(None)
    reporter.say("run folder: [bold]a[/bold]")
    reporter.warn("slow")
    assert capsys.readouterr() == ("run folder: [bold]a[/bold]\n", "warning: slow\n")


def test_tables_in_a_notebook_are_text_and_not_displayed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    from leafwing.tables import align_columns

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert align_columns([("a", 1), ("long", 2)]) == "a     1\nlong  2"
    assert screen.contents == []


# --- what shows itself ----------------------------------------------------------------------------------------------------


def test_a_run_shows_its_latest_sheet_and_what_it_is(tmp_path: Path) -> None:
    run = bare_run.create(tmp_path / "a<b", source="/pictures/<script>")
    assert "&lt;script&gt;, 0 of 1,000 images" in run._repr_html_()
    assert "<script>" not in run._repr_html_()
    assert "<img" not in run._repr_html_()
    (run.samples / "000000500.png").write_bytes(IMAGE)
    for images in (100, 400):
        (run.samples / f"{images:09d}.png").write_bytes(b"an earlier sheet")
    (run.samples / "000000500-seed0-n64.png").write_bytes(b"samples of the user")
    run.log({"images": 500})
    run.stop_reason = "time_limit"
    assert "500 of 1,000 images, ended by time_limit" in run._repr_html_()
    assert notebook.picture(IMAGE) in run._repr_html_()
    assert repr(run) == f"Run({str(tmp_path / 'a<b')!r})"


def test_a_run_that_is_resumed_elsewhere_shows_its_new_length(tmp_path: Path) -> None:
    run = bare_run.create(tmp_path / "run")
    run.stop_reason = "time_limit"
    other = Run(run.folder)
    other.update(replace(other.settings, schedule=replace(other.settings.schedule, images=2000)))
    other.log({"images": 1500})
    assert "1,500 of 2,000 images, ended by time_limit" in run._repr_html_()
    other.log({"images": 2000})
    assert run._repr_html_().endswith("2,000 of 2,000 images</div>")


def test_results_stay_the_same_when_the_current_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved_run.save(Path("run"), DataSpec.images(16, 16, 3), saved_run.PLAIN)
    run = Run(Path("run"), trust=True)
    (run.samples / "000000064.png").write_bytes(IMAGE)
    Path("walks.png").write_bytes(IMAGE)
    exploration, sheet = Exploration(Path(), {"words": []}, (Path("walks.png"),)), ContactSheet(Path("walks.png"), {})
    assert (run.folder, run.samples, str(run)) == (Path("run"), Path("run/samples"), "Run('run')")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert notebook.picture(IMAGE) in run._repr_html_()
    assert notebook.picture(IMAGE) in exploration._repr_html_()
    assert sheet._repr_png_() == IMAGE
    assert leafwing.Model.load(run).images == saved_run.IMAGES
    assert leafwing.sample(run, 2, progress=False).parent == tmp_path / "run" / "outputs"
    assert run.folder == tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    assert run.folder == Path("run")


def test_a_model_shows_samples_if_it_generates_images_from_latents(tmp_path: Path) -> None:
    spec = DataSpec.images(16, 16, 3)
    model = leafwing.Model.load(saved_run.save(tmp_path / "run", spec, saved_run.PLAIN), trust=True)
    assert model._repr_png_() == png(model.grid(16))
    assert repr(model) == "<leafwing.Model: image (image 16x16x3)>"
    (tmp_path / "second").mkdir()
    source = 'Output("image", lambda nets, inputs, clock: nets.F(inputs.input), ("input",))'
    spec = DataSpec.images(16, 16, 3, input=spec.fields["image"])
    translator = leafwing.Model.load(saved_run.save(tmp_path / "second" / "run", spec, source), trust=True)
    assert translator._repr_png_() is None


def row(**changes: Any) -> dict[str, Any]:
    protocol = {
        "n_fake": 8, "n_real": 8, "split": "train", "shape": "8x8x1", "fit": "crop", "resize": "lanczos", "mirror": False,
        "output": "image", "conditions": "defaults", "features": "", "network": "", "data": "<d>", "seed": 0, "precision": "fp32",
        "version": 1,
    }  # fmt: skip
    return {
        "metric": "fid", "value": 1.23456, "low": 1.0, "high": 2.0, "better": "lower", "images": 5000, "protocol": protocol,
    } | changes  # fmt: skip


def test_rows_of_an_evaluation_are_a_list_and_a_table() -> None:
    rows = Rows([row(), row(metric="<kid>", value=None, low=None, high=None, words="No <copies>.")])
    assert rows[1]["metric"] == "<kid>"
    html = rows._repr_html_()
    assert "<tr><td>5,000</td><td>fid</td><td>1.235</td><td>1 to 2</td><td>lower</td></tr>" in html
    assert "<td>&lt;kid&gt;</td><td>unknown</td><td></td>" in html
    assert "<div>5,000 images: No &lt;copies&gt;.</div>" in html
    assert html.count("8 samples vs. 8 training images") == 1
    assert "noise" not in html
    scale = {"real": 0.5, "noise": 900.0, "others": "halves", "n_real": 4, "n_others": 4, "n_noise": 64}
    html = Rows([row(metric="kid", scale=scale), row(metric="precision", scale=scale, variety=0.001)])._repr_html_()
    assert html.startswith(
        "<div>The distance of the samples from the real images is 0.14% of that of random noise: KID 1.235; other real images "
        "have 0.5, "
    )
    assert "<th>real images</th><th>noise</th><th>better</th>" in html
    assert "<td>1 to 2</td><td>0.5</td><td>900</td><td>lower</td>" in html
    assert "<td>no variety: not comparable</td>" in html
    assert "<div>real images: one half of the real images against the other, 4 against 4" in html
    assert Rows()._repr_html_().startswith("<table>")
    del rows[0]["images"]
    assert "<th>images</th>" not in Rows(rows[:1])._repr_html_()


def test_a_comparison_is_a_dictionary_its_text_and_samples(tmp_path: Path) -> None:
    content = {
        "sentences": ["a <wins>."],
        "measures": {"fid": "lower"},
        "summary": [],
        "keeping": "",
        "equal": "Equal.",
        "caveats": [],
        "marked": [],
        "report": "report.html",
    }
    table = Comparison(content)
    assert table == content
    assert table["sentences"] == ["a <wins>."]
    assert table._repr_html_().startswith("<pre>a &lt;wins&gt;.\nEqual.")
    sheet = tmp_path / "000000500.png"
    sheet.write_bytes(IMAGE)
    html = Comparison(content, {"gan": sheet, "lost": tmp_path / "no.png"})._repr_html_()
    assert html.startswith(table._repr_html_())
    assert f"<div>gan</div>{notebook.picture(IMAGE)}" in html
    assert html.endswith("<div>lost</div>")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".mp4"])
def test_a_written_file_is_a_path_that_shows_itself(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"a{suffix}").write_bytes(IMAGE)
    path = Written(f"a{suffix}")
    assert (path, str(path), path.read_bytes()) == (Path(f"a{suffix}"), f"a{suffix}", IMAGE)
    assert {path: 1}[Path(f"a{suffix}")] == 1
    html = path._repr_html_()
    assert html is not None
    assert "<video" in html if suffix == ".mp4" else html.startswith(notebook.picture(IMAGE, suffix[1:]))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert path._repr_html_() == html, "the current folder has changed"
    assert pickle.loads(pickle.dumps(path)) == copy.deepcopy(path) == path
    monkeypatch.setattr(results, "SHOWN", 3)
    assert path._repr_html_() is None, "too large"


def test_other_written_paths_are_shown_as_paths(tmp_path: Path) -> None:
    for path in (Written(tmp_path), Written(tmp_path / "a.npz"), Written(tmp_path / "lost.png")):
        assert path._repr_html_() is None
    derived = Written(tmp_path / "lost.png").parent
    assert getattr(derived, "_repr_html_", lambda: None)() is None


def test_what_is_written_shows_itself(tmp_path: Path) -> None:
    output = 'Output("image", lambda nets, inputs, clock: squares(inputs.latent), ("label",), Normal(4))'
    run = saved_run.save(tmp_path / "run", DataSpec.images(16, 16, labels=("ant", "bee")), output)
    sheets = run / "samples"
    sheets.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64)).save(sheets / "000000100.png")
    for written in (
        leafwing.sample(run, 2, trust=True, progress=False),
        leafwing.sample_seeds(run, "1,2", format="grid", label="ant", trust=True, progress=False),
        leafwing.walk(run, "1,2", seconds=0.2, trust=True, progress=False),
        leafwing.reel(run, seconds=1, progress=False),
    ):
        assert isinstance(written, Path)
        assert "base64" in (written._repr_html_() or ""), written
    sheet = tmp_path / "crops.png"
    sheet.write_bytes(IMAGE)
    html = Preparation(tmp_path / "crops", sheet, pictures=3, written=2)._repr_html_()
    assert html == f"<div>{tmp_path / 'crops'}: 2 crops of 3 pictures</div>{notebook.picture(IMAGE)}<div>{sheet}</div>"


def test_an_exploration_and_a_contact_sheet_show_their_pictures(tmp_path: Path) -> None:
    sheet = tmp_path / "walks.png"
    sheet.write_bytes(IMAGE)
    found = Exploration(tmp_path, {"words": ["A < B."]}, (sheet, tmp_path / "latents.npy"))
    assert found._repr_html_().startswith(f"{notebook.picture(IMAGE)}<div>A &lt; B.</div>")
    path, content = ContactSheet(sheet, {"samples": 1})
    assert (path, content) == (sheet, {"samples": 1})
    assert ContactSheet(sheet, {})._repr_png_() == IMAGE
    assert ContactSheet(tmp_path / "moved.png", {})._repr_png_() is None


def test_a_contact_sheet_without_a_path_gets_a_name_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first, _), (second, _) = (leafwing.show("ring", progress=False) for _ in range(2))
    assert [first.name, second.name] == ["ring.png", "ring-2.png"]
    assert first.read_bytes() == second.read_bytes()


def test_the_report_on_a_source_is_its_text() -> None:
    report = leafwing.doctor("ring", progress=False)
    assert report._repr_html_().startswith("<pre>ring  (built-in 2-D points)\n")


# --- runs as arguments ----------------------------------------------------------------------------------------------------


def test_functions_take_the_run_itself_with_its_trust(tmp_path: Path) -> None:
    folder = saved_run.save(tmp_path / "run", DataSpec.images(16, 16, 3), saved_run.PLAIN)
    assert Run.open(Run(folder, trust=True)).trust
    path = leafwing.sample(Run(folder, trust=True), 4, progress=False)
    assert path.is_file()
    with pytest.raises(LeafwingError, match="--trust"):
        leafwing.sample(Run(folder), 4, progress=False)
    assert Path(Run(folder)) == folder


def test_a_model_is_loaded_with_the_options_of_the_command_line(tmp_path: Path) -> None:
    saved_run.save(tmp_path / "0007-mine", DataSpec.images(16, 16, 3), saved_run.PLAIN)
    model = leafwing.Model.load("7", root=tmp_path, device="auto", precision="fp32", trust=True)
    assert model.images == saved_run.IMAGES
    assert model.device.type in ("cpu", "cuda", "mps")
    with pytest.raises(LeafwingError, match="no device 'tpu'; choose from auto, cpu, cuda, mps"):
        leafwing.Model.load("7", root=tmp_path, device="tpu", trust=True)


def test_every_public_name_can_be_loaded() -> None:
    for name in leafwing.__all__:
        assert getattr(leafwing, name).__name__ == name


@pytest.mark.parametrize("kind", ["float64", "bfloat16", "meta"])
def test_samples_are_the_same_whatever_a_program_has_set_in_torch(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """Another default type or device; the device "meta" stands in for a GPU."""
    folder = tmp_path_factory.mktemp("run")
    run = leafwing.train("digits", "cgan", out=folder / "run", progress=False, **TINY)
    Image.new("L", (16, 16)).save(folder / "x.png")

    def everything() -> list[Any]:
        model = leafwing.Model.load(run)
        latents = model.latents(3)
        for number, one in enumerate(model.stream(latents, batch=2)):
            assert one.dtype == torch.float32, number
        numbers = [model.sample(3), model.generate(latents), model.judge(model.sample(2)), model.render(latents)]
        scores = leafwing.score(run, folder / "x.png", progress=False).scores
        row = leafwing.evaluate(run, metrics="swd", n=8, progress=False)[0]
        grid, film = model.grid(2).tobytes(), model.film(2, seconds=0.2)
        return [*(value.tolist() for value in numbers), scores, row["value"], grid, repr(film)]

    expected = everything()
    try:
        if kind == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, kind))
        again = everything()
        leafwing.train("digits", "cgan", out=folder / "again", progress=False, **TINY)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert again == expected
    assert leafwing.Model.load(folder / "again").sample(3).tolist() == expected[0]


def test_what_a_program_has_set_in_torch_neither_matters_to_a_call_nor_changes(tmp_path: Path) -> None:
    leafwing.train("digits", "dcgan", out=tmp_path / "plain", progress=False, **TINY)
    modes = (torch.no_grad, torch.inference_mode)
    runs = [tmp_path / mode.__name__ for mode in modes]
    folders = iter(runs)
    calls: list[Callable[[], Any]] = [
        lambda: leafwing.train("digits", "dcgan", out=next(folders), progress=False, **TINY),
        lambda: leafwing.resume(runs[0], images="+8", threads=2, progress=False),
        lambda: leafwing.forecast("digits", "dcgan", progress=False, **TINY),
        lambda: leafwing.evaluate(runs[0], metrics="swd", n=8, progress=False),
        lambda: leafwing.Model.load(runs[0]),
    ]
    torch.set_default_dtype(torch.float64)
    try:
        for call in calls:
            for mode in modes:
                torch.manual_seed(7)
                before = torch.get_rng_state()
                with mode():
                    call()
                assert torch.equal(torch.get_rng_state(), before)
                assert torch.get_default_dtype() is torch.float64
                assert torch.get_num_threads() == 1
    finally:
        torch.set_default_dtype(torch.float32)
    assert len({files.digest(Run(run).weights()[TINY["images"]]) for run in (tmp_path / "plain", *runs)}) == 1


def test_methods_of_a_model_take_arrays_as_programs_have_them(tmp_path: Path) -> None:
    """Flipped, read-only and in the byte order of other machines, and latents of other floating-point types."""
    run = leafwing.train("digits", "cgan", out=tmp_path / "run", progress=False, **TINY)
    model = leafwing.Model.load(run)
    latents = model.latents(4).numpy()
    expected = model.generate(latents[::-1].copy(), label=[3, 2, 1, 0])
    fixed = latents[::-1].copy()
    fixed.flags.writeable = False
    labels = np.arange(4)[::-1]
    for values in (latents[::-1], fixed, latents[::-1].astype(">f4"), torch.from_numpy(fixed.copy()).double()):
        assert torch.equal(model.generate(values, label=labels), expected)
    assert model.generate(torch.from_numpy(fixed.copy()).half(), label=labels.astype(">i4")).shape == expected.shape
    flipped = expected.numpy()[..., ::-1]
    assert leafwing.to_image(flipped).tobytes() == leafwing.to_image(flipped.copy()).tobytes()
    assert torch.equal(model.judge(flipped, label=1), model.judge(flipped.copy(), label=1))
    assert torch.equal(model.render(latents, label=0), model.render(torch.from_numpy(latents), label=0))
    model._forward = lambda output, inputs, seed, same_noise: inputs.latent
    model.device = torch.device("meta")
    for values in (latents, torch.from_numpy(latents)):
        assert model.generate(values, label=0).device == model.device, "latents are moved to the device of the model"


def test_empty_samples_and_other_sizes_are_refused_in_words(tmp_path: Path) -> None:
    model = leafwing.Model.load(leafwing.train("digits", "infogan", out=tmp_path / "run", progress=False, **TINY))
    latents, samples = model.latents(3), model.sample(2)
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.generate(latents[:0]), "at least one sample, not 0"),
        (lambda: model.judge(samples[:0]), "at least one sample, not 0"),
        (lambda: model.judge(samples, batch=0), "batch=0: must be at least 1"),
        (lambda: model.generate(latents, batch=-1), "batch=-1: must be at least 1"),
        (lambda: model.render(latents[:, :3]), r"give floating-point numbers of shape \(n, "),
        (lambda: model.sweep(latents[:, :3], "category"), r"give floating-point numbers of shape \(n, "),
    ]
    for call, message in calls:
        with pytest.raises(LeafwingError, match=message):
            call()
