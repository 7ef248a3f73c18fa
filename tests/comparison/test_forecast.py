"""How long a comparison takes, how many checkpoints it evaluates, and what it measures to know that."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_workers import FakeWorkers, measured
from leafwing import commands, data
from leafwing.commands.comparison import child, compare, forecast, report, speed
from leafwing.commands.comparison.forecast import Timetable
from leafwing.commands.comparison.plan import Cost
from leafwing.progress import Reporter
from leafwing.settings import DataSettings, HardwareSettings, Settings
from paired import paired_data, write_recipe
from small_comparison import RING, plan_of

TEXT_GAN = str(Path(__file__).parents[2] / "examples" / "text_gan.py")


def cost(training: float, evaluation: float, start: float = 0.0) -> Cost:
    """A cost with these seconds per image and per sample as a whole."""
    return Cost(training / forecast.BESIDES_TURNS, evaluation / forecast.BESIDES_FEATURES, start)


def plan_with(training: float, evaluation: float, **changes: Any) -> Any:
    """A plan of one recipe with two seeds, 1,000 images each, with these seconds per image and per sample; 100 samples."""
    defaults = {
        "runs": [("gan", 0), ("gan", 1)],
        "images": {"gan": 1000},
        "costs": {"gan": cost(training, evaluation, 2.0)},
        "jobs": 1,
        "checkpoints": 1,
        "evaluation": {"n": 100},
        "conditions": SimpleNamespace(images=1000, minutes=None),
    }
    return SimpleNamespace(**{**defaults, **changes})


def test_evaluation_takes_at_most_half_of_the_time_of_training() -> None:
    for evaluation, checkpoints in ((1e-4, 8), (0.04, 8), (0.08, 4), (0.2, 2), (0.3, 1), (9.0, 1)):
        plan = plan_with(0.1, evaluation)
        assert forecast.choose_checkpoints(plan) == checkpoints
        training = forecast.expected_seconds(plan, "gan", "training")
        assert checkpoints == 1 or forecast.expected_seconds(plan, "gan", "evaluation", checkpoints) <= training / 2
    limited = plan_with(0.1, 0.04, conditions=SimpleNamespace(images=1000, minutes=0.5))
    assert forecast.expected_seconds(limited, "gan", "training") == pytest.approx(2 + 1.2 * 30), (
        "the time limit, and the start"
    )


def test_the_last_checkpoint_is_always_evaluated() -> None:
    kept = [25, 125, 250, 375, 500, 625, 750, 875, 1000]
    assert forecast.evaluated_checkpoints(kept, 8) == kept[1:]
    assert forecast.evaluated_checkpoints(kept, 4) == [250, 500, 750, 1000]
    assert forecast.evaluated_checkpoints(kept, 1) == [1000]
    assert forecast.evaluated_checkpoints([25], 8) == [25]


def test_a_comparison_says_beforehand_how_long_it_takes(
    fake_workers: FakeWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, warnings = list[str](), list[str]()
    monkeypatch.setattr(Reporter, "say", lambda self, text: texts.append(text))
    monkeypatch.setattr(Reporter, "warn", lambda self, text: warnings.append(text))
    fake_workers.answer = lambda request: (
        measured({"gan": 10.0, "lsgan": 10.0}, 0.05) if request["call"] == "speed" else None
    )
    arguments = {**RING, "seeds": 1, "jobs": 1, "out": tmp_path / "out", "progress": Reporter()}
    commands.compare("ring", **arguments)
    (sentence,) = [text for text in texts if text.startswith("this will take")]
    assert sentence.startswith("this will take about 2m 24s of training and 48s of evaluation by a rough measurement")
    assert sentence.endswith("(200 samples of 2 checkpoints of each run)")
    assert len(warnings) == 2
    assert warnings[0].startswith(
        "gan takes 12 generator steps in 600 images, and a run with fewer than 300 is too short to judge"
    )
    assert warnings[0].endswith("it needs about 15k images")
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert content["checkpoints"] == 2
    assert content["costs"]["gan"]["evaluation"] == 0.05
    assert {len(given["checkpoints"]) for given in fake_workers.arguments("evaluate")} == {2}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 checkpoints of each run were evaluated" in page
    texts.clear()
    fake_workers.requests.clear()
    commands.compare("ring", **{**arguments, "seeds": 2})
    assert fake_workers.calls() == ["evaluate", "evaluate", "train", "train"], "what was measured stays"
    assert any(text.endswith("shows the comparison as it was before, until this one ends") for text in texts)
    assert any("2m 24s of training" in text for text in texts), "of the two runs that were added"


def test_a_comparison_that_is_stopped_while_it_measures_measures_again(
    fake_workers: FakeWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    def recorded() -> int:
        content: dict[str, int] = json.loads((tmp_path / "out" / "compare.json").read_text())
        return content["checkpoints"]

    fake_workers.answer = lambda request: (
        measured({"gan": 10.0, "lsgan": 10.0}, 0.05) if request["call"] == "speed" else None
    )
    arguments = {**RING, "seeds": 1, "jobs": 1, "out": tmp_path / "out"}
    with monkeypatch.context() as patch:
        patch.setattr(compare, "measure_costs", stop)
        with pytest.raises(KeyboardInterrupt):
            commands.compare("ring", **arguments)
    assert recorded() == 0
    commands.compare("ring", **arguments)
    assert recorded() == 2, "chosen by the costs"


def test_copies_are_looked_for_at_the_end_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, Any]] = []

    def evaluate(run: str, checkpoint: int, metrics: Any = None, **given: Any) -> list[dict[str, Any]]:
        calls.append((checkpoint, metrics))
        names = metrics or ["fid", "memorisation", "leaks"]
        return [{"by": name, "images": checkpoint} for name in names]

    monkeypatch.setattr(child, "evaluate", evaluate)
    assert child.main(json.dumps({"call": "evaluate", "arguments": {"run": "r", "checkpoints": [5, 10, 20]}})) == 0
    assert calls == [(20, None), (10, ["fid"]), (5, ["fid"])]
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["images"] for row in rows] == [20, 20, 20, 10, 5]
    calls.clear()
    only = {"run": "r", "checkpoints": [5, 20], "metrics": ["memorisation"]}
    assert child.main(json.dumps({"call": "evaluate", "arguments": only})) == 0
    assert calls == [(20, ["memorisation"]), (5, ["memorisation"])], "the only one is measured everywhere"


@pytest.mark.parametrize("task", ["points", "images", "pairs", "captions"])
def test_the_cost_of_evaluation_is_measured(task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = "caption" if task == "captions" else None
    settings = Settings(reading=DataSettings(hold_out=0, fields=fields), machine=HardwareSettings(device="cpu", threads=1))
    pairs = paired_data(80)
    if task == "pairs":
        monkeypatch.setattr(data, "load", lambda source, **options: pairs)
        (tmp_path / "pairs").mkdir()
        source, recipe = str(tmp_path / "pairs"), str(write_recipe(tmp_path))
    else:
        source, recipe = {"points": ("ring", "gan"), "images": ("digits", "dcgan"), "captions": ("sprites", TEXT_GAN)}[task]
    options = {"points": {"width": 8}, "pairs": {}}.get(task, {"width": 4})
    features = "" if task == "points" else "pixels"
    assert 0 < speed.measure_evaluation(source, recipe, settings, options, features, None) < 60


def test_what_remains_is_corrected_by_what_was_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    plan = plan_with(0.1, 0.1, costs={"gan": cost(0.1, 0.1), "lsgan": cost(0.2, 0.1)}, images={"gan": 1000, "lsgan": 1000})
    remaining: Any = {("gan", 0): ["training", "evaluation"], ("lsgan", 0): ["training", "evaluation"]}
    times = Timetable(plan, remaining)
    assert times.left({}) == pytest.approx(100 + 10 + 200 + 10)
    times.begin(("gan", 0), "training")
    now[0] = 50.0
    assert times.left({("gan", 0): 0.05}) == pytest.approx(270), "too early to tell"
    assert times.left({("gan", 0): 0.25}) == pytest.approx(150 + 20 + 400 + 20), "all is half as fast as expected"
    now[0] = 200.0
    assert times.end(("gan", 0)) == 200
    times.begin(("gan", 0), "evaluation")
    now[0] = 210.0
    times.end(("gan", 0))
    times.remaining.pop(("gan", 0))
    assert times.left({}) == pytest.approx(2 * 200 + 10)
    times.begin(("lsgan", 0), "training", done=0.5)
    now[0] = 260.0
    assert times.left({("lsgan", 0): 0.75}) == pytest.approx(50 + 10), "resumed in the middle"


def test_samples_per_checkpoint_are_those_of_evaluate(tmp_path: Path) -> None:
    assert forecast.samples_per_checkpoint(plan_of("ring", tmp_path / "a", **RING)) == 200
    assert forecast.samples_per_checkpoint(plan_of("ring", tmp_path / "b", **{**RING, "n": None})) == 2_500
    digits = plan_of("digits", tmp_path / "c", recipes="dcgan", options=["width=4"], jobs=1, hold_out=300)
    assert forecast.samples_per_checkpoint(digits) == 300
    assert report.short_trainings(digits) == [], "200k images are enough"
