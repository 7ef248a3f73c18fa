"""What the end of a training says: how much was done, what its samples look like, what to do next. Only what was measured."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import health
from leafwing.commands.reel import reel
from leafwing.commands.retuning import scaled_rates
from leafwing.errors import LeafwingError, StorageError
from leafwing.metrics.conclusions import MIN_STEPS
from leafwing.progress import Reporter
from leafwing.quantities import show_count, show_duration
from leafwing.recipes._recommended import AUGMENT, CONDITION_SCALE, EXPECTATION, RECOGNISABLE, repetitions
from leafwing.runs import Run, train_again

if TYPE_CHECKING:
    from torch import Tensor

    from leafwing.data import Dataset
    from leafwing.game import DataSpec
    from leafwing.metrics.glance import Glance
    from leafwing.model import Model

SAMPLES, LABELLED = 128, 32
"""Samples that are looked at, and those of them that are generated with other labels and from other latents too."""
MAX_PIXELS = 1 << 21
"""Fewer samples are looked at if they have more pixels than this together, but at least 16: this should take seconds."""
NOISE, NOISY, SMOOTH = 0.4, 2.5, 0.25
"""Samples are noise if more than the first share of their contrast is fine detail (white noise: 0.75; the data sets that were tried:
0.04 to 0.13), and more than the second times as much as in real images; they are blurred below the third times as much. Real images
that were reduced to 8x8 pixels have 0.03 to 0.08 times as much at 64 px, and 0.3 to 0.8 at 32 px, where that is too close to tell."""
GREY = 0.8
"""Samples that are farther from the data than this times the distance of the mean image show nothing of the data yet."""
PALE = 0.5
"""Samples that vary less than this, relative to the real data, are pale or alike."""
NO_EFFECT = 0.1
"""Labels have no effect if they change a sample less than this, relative to another latent."""
STOPS = {
    "interrupted": "stopped by you",
    "unhealthy": "stopped by a health alarm",
    "no_improvement": "no improvement for a while (--stop-on)",
}
"""Why a training ended before its plan, by `Run.stop_reason`."""
SPARE = 0.1
"""If more than this share of the time limit is left when all planned images were shown, that is said."""


@dataclass(frozen=True)
class Ending:
    """The end of a training.

    Args:
        images, planned: images shown, and those planned in all.
        rounds: rounds played.
        stop_reason: see `Run.stop_reason`.
        glance: what the samples look like; None if that was not measured.
        alarms: health alarms that had not passed at the end, as `health.alarms` returns them.
        passed: number of alarms that had passed.
        rolled_back: number of rollbacks.
        seconds: the time limit of the training; None without one.
        used: the time that it took, in seconds.
        separated: share of pairs in which D scores the real image higher, although the samples are far from the data; None if it does
            not tell them apart.
    """

    images: int
    planned: int
    rounds: int
    stop_reason: str = ""
    glance: Glance | None = None
    alarms: Sequence[health.Alarm] = ()
    passed: int = 0
    rolled_back: int = 0
    seconds: float | None = None
    used: float = 0.0
    separated: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all planned images were shown."""
        return self.images >= self.planned

    @property
    def is_as_planned(self) -> bool:
        """Whether training ended where the user wanted: after all planned images, or at the time limit."""
        return self.is_complete or self.stop_reason == "time_limit"

    @property
    def is_early(self) -> bool:
        """Whether there were too few rounds for a judgement."""
        return self.rounds < MIN_STEPS


def ending(run: Run, glance: Glance | None) -> Ending:
    """The end of a run's training, from its log."""
    records = run.records()
    last, alarms = records[-1], health.alarms(records)
    return Ending(
        images=last["images"],
        planned=run.settings.schedule.images,
        rounds=last.get("round", MIN_STEPS),
        stop_reason=run.stop_reason,
        glance=glance,
        alarms=[alarm for alarm in alarms if alarm.until is None],
        passed=sum(alarm.until is not None for alarm in alarms),
        rolled_back=sum("rolled_back" in record for record in records),
        seconds=run.settings.schedule.time,
        used=last["seconds"],
        separated=health.separated(records),
    )


# --- sentences ----------------------------------------------------------------------------------------------------------------


def describe_plan(end: Ending) -> str:
    """How much of the plan was done, to follow "trained on ... images in ..."."""
    if end.is_complete:
        left = 0.0 if end.seconds is None else end.seconds - end.used
        spare = f", with {show_duration(left)} of its time to spare" if left > SPARE * (end.seconds or 0.0) else ""
        return f"all of the plan{spare}"
    if end.is_as_planned and end.seconds:
        return (
            f"all of the planned {show_duration(end.seconds)}, and {100 * end.images // end.planned}% of the "
            f"{show_count(end.planned)} images that were planned at most"
        )
    reason = STOPS.get(end.stop_reason)
    return f"{100 * end.images // end.planned}% of the plan of {show_count(end.planned)}" + (
        f" ({reason})" if reason else ""
    )


def describe(end: Ending) -> list[str]:
    """What is known about the samples and about the training, in at most five sentences."""
    lines = describe_samples(end)
    if end.is_early and end.glance:
        rounds = "1 round is" if end.rounds == 1 else f"{end.rounds:,} rounds are"
        lines.append(f"{rounds} too few to judge: before about {MIN_STEPS}, samples are shapeless with any recipe.")
    return [*lines, *describe_health(end)][:5]


def describe_samples(end: Ending) -> list[str]:
    """What the samples look like."""
    measured = end.glance
    if measured is None:
        return []
    lines = [line for line in (describe_detail(measured), describe_variety(measured, end.is_early)) if line]
    if not lines:
        pale = " only" if measured.variety < PALE else ""
        why = ": they are pale or alike, and more training may help" if pale else ""
        lines = [
            f"The samples differ from each other{pale} {measured.variety:.0%} as much as the real data in layout and colours{why}. "
            "How good they are was not measured: look at them, or run leafwing evaluate."
        ]
    if lost := measured.undefined:
        has = "has" if lost == 1 else "have"
        lines.append(f"{lost} of {measured.samples + lost} samples {has} values that are not numbers.")
    if has_no_effect(measured):
        lines.append(
            "The class label has no visible effect yet: it changes a sample "
            f"{measured.label_effect:.0%} as much as another latent does."
        )
    return lines


def describe_detail(measured: Glance) -> str:
    """Whether samples are noise or blurred; empty if neither."""
    if measured.detail is None or measured.real_detail is None:
        return ""
    shares = (
        f"{measured.detail:.0%} of their contrast is between neighbouring pixels, {measured.real_detail:.0%} in real images."
    )
    if measured.detail > NOISY * measured.real_detail:
        noise = "are noise rather than images so far" if measured.detail > NOISE else "are noisier than real images"
        return f"The samples {noise}: {shares}"
    return f"The samples are blurred: {shares}" if measured.detail < SMOOTH * measured.real_detail else ""


def describe_variety(measured: Glance, early: bool = False) -> str:
    """Whether samples are all alike, or show nothing of the data; empty if neither. Early samples are no sign of a collapse."""
    if measured.variety < health.VARIED:
        name = "" if early else " (mode collapse)"
        return f"The samples hardly differ from each other: {measured.variety:.0%} as much as the real data do{name}."
    if measured.distance > GREY * measured.grey_distance:
        return "The samples show nothing of the data yet: in layout and colours they are hardly nearer to it than its average is."
    return ""


def describe_health(end: Ending) -> list[str]:
    """What the health checks found that still mattered at the end."""
    lines = [
        f"{alarm.symptom[:1].upper()}{alarm.symptom[1:]}, since {show_count(alarm.since)} images. {alarm.advice}."
        for alarm in end.alarms
    ]
    if end.separated is not None and not lines and not end.is_early:
        lines.append(f"The discriminator still scores a real image higher than a sample in {end.separated:.0%} of pairs.")
    if end.rolled_back or end.passed:
        times = [
            *([f"{end.passed} passed"] if end.passed else []),
            *([f"{end.rolled_back} led to a rollback"] if end.rolled_back else []),
        ]
        lines.append(f"Of the health alarms, {' and '.join(times)} (log.jsonl).")
    return lines


# --- what to do next ----------------------------------------------------------------------------------------------------------


def next_step(run: Run, end: Ending) -> tuple[str, str]:
    """Why, and the command to run next, without the name of the program."""
    trust = "" if run.recipe_is_installed() else " --trust"
    folder, anew = shlex.quote(str(run.folder)), train_again(run)
    options, rolled_back = run.config["options"], run.history.rolled_back
    scale = rolled_back[-1]["rate"] if rolled_back else 1.0
    since = " as after the last rollback" if rolled_back else ""
    is_losing = any(alarm.symptom == health.LOSING for alarm in end.alarms)
    if is_losing and (faster := scaled_rates(options, lr_g=scale, lr_d=2 * scale)):
        return f"to start again, with D's learning rate twice as high{since}", f"{anew}{faster}"
    unstable = is_unstable(end)
    if unstable and (slower := scaled_rates(options, lr_g=scale / 2, lr_d=scale / 2)):
        return f"to start again, with learning rates half as high{since}", f"{anew}{slower}"
    measured = end.glance
    is_short = measured is not None and bool(expectation(run.spec, end.planned, run.history.before))
    if end.stop_reason == "no_improvement":
        return "to use the best checkpoint", f"{sampling(run)} --checkpoint best{trust}"
    lasting = {alarm.kind for alarm in end.alarms} - {*health.SLOWER_HELPS}
    if "overfit" in lasting and not is_augmented(run):
        return "to start again, with changed images for D", f"{anew} --augment {AUGMENT}"
    if lasting:  # more training is no remedy
        return using(run, trust)
    if not end.is_complete and not (end.is_as_planned and is_short):
        return "to go on", f"resume {folder}{trust}"
    factor = options.get("condition_scale")
    if (
        not end.is_early
        and measured is not None
        and has_no_effect(measured)
        and isinstance(factor, float)
        and factor < CONDITION_SCALE
    ):
        why = "to start again, with labels that count more in G's input"
        return why, f"{anew} --condition-scale {CONDITION_SCALE:g}"
    if not is_short and measured is not None and (end.is_early or (is_unfinished(measured) and not unstable)):
        return "to train twice as long", f"resume {folder} --images +{show_count(end.planned)}{trust}"
    if is_short:
        why = f"to train on, because things can seldom be recognised before {show_count(RECOGNISABLE)} images"
        return why, f"resume {folder} --images {show_count(RECOGNISABLE)}{trust}"
    return using(run, trust)


def using(run: Run, trust: str) -> tuple[str, str]:
    """Why, and the command that generates with a run."""
    command = sampling(run)
    return "to use it" if command.startswith("translate") else "to see more", f"{command}{trust}"


def is_augmented(run: Run) -> bool:
    """Whether critics saw changed images, by choice or by the recipe; also if they cannot, or if the recipe may not be executed."""
    if run.spec.points or run.settings.critic.augment is not None:
        return run.settings.critic.augment != "none"
    try:
        return run.build_game().augment != "none"
    except LeafwingError:
        return True


def is_photographic(spec: DataSpec) -> bool:
    """Whether data are what most photographs are: images in colour of a size at which things can be seen."""
    return not spec.points and spec.channels >= 3 and min(spec.height, spec.width) >= 32


def expectation(spec: DataSpec, images: int, before: int) -> str:
    """What to expect of a training of so many images on such data, if it is too short for things to be recognised; else empty.

    The weights from which it starts were trained on `before` images.
    """
    return EXPECTATION if images + before < RECOGNISABLE and is_photographic(spec) and "input" not in spec.fields else ""


def describe_length(run: Run, images: int, limit: float | None) -> str:
    """What a training of so many images means for the data of a run: how often each is shown, and what to expect of it.

    Args:
        run: the run.
        images: the number of images to show.
        limit: the time limit in seconds, if there is one.
    """
    if limit is not None:
        return f"at most {show_count(images)} images in {show_duration(limit)}: --dry-run says how many fit"
    line = f"{show_count(images)} images, {repetitions(images, run.data.used - run.data.held_out, run.spec.points)}"
    expected = expectation(run.spec, images, run.history.before)
    return f"{line}; {expected}" if expected else line


def is_unstable(end: Ending) -> bool:
    """Whether something is wrong that more training does not fix: an alarm, or samples that are all alike after enough steps."""
    collapsed = end.glance is not None and end.glance.variety < health.VARIED and not end.is_early
    return collapsed or any(alarm.kind in health.SLOWER_HELPS for alarm in end.alarms)


def is_unfinished(measured: Glance) -> bool:
    """Whether more training is the first thing to try."""
    return bool(describe_detail(measured) or describe_variety(measured) or has_no_effect(measured))


def has_no_effect(measured: Glance) -> bool:
    """Whether the class label has no visible effect."""
    return measured.label_effect is not None and measured.label_effect < NO_EFFECT


def sampling(run: Run) -> str:
    """The command that generates samples of a run with all of its conditions."""
    folder, conditions = shlex.quote(str(run.folder)), run.config.get("conditions", ())
    if any(run.spec.fields[name].has_pixels for name in conditions if name in run.spec.fields):
        return f"translate {folder} PICTURES"
    options = "-n 10 --label all" if "label" in conditions else "-n 64"
    if "attributes" in conditions:
        first = run.spec.attributes[0]
        options += f" --set {shlex.quote(first if '=' in first else first + '=1')}"
    if "caption" in conditions and (examples := run.config["data"].get("examples", {}).get("caption")):
        options += f" --set {shlex.quote(f'caption={examples[0]}')}"
    return f"sample {folder} {options} --seed 3"


# --- measuring ----------------------------------------------------------------------------------------------------------------


def look(run: Run) -> Glance | None:
    """What the last samples of a run look like; None for images from images, whose inputs decide, and for fields that are not images.

    Takes some seconds. The data are read from the cache.

    Raises:
        LeafwingError: the recipe is not trusted, or the data are gone.
    """
    import numpy as np
    import torch

    from leafwing.commands.feeding import reload_data
    from leafwing.conditions import pixel_conditions
    from leafwing.engine import choose
    from leafwing.fields import Clip, Image, Vector
    from leafwing.metrics.glance import glance
    from leafwing.metrics.targets import conditions_as_real, frames, target, to_images
    from leafwing.model import Model
    from leafwing.pixels import composite_on_white, images_to_tensor

    if not run.weights():
        return None
    device = choose(run.settings.machine.device or "auto", "fp32", torch.get_num_threads()).device
    model = Model.load(run, device=device)
    output = model.output
    kind = model.kind(output)
    if output.prior is None or pixel_conditions(output, model.spec) or not isinstance(kind, Image | Clip | Vector):
        return None
    count = max(16, min(SAMPLES, MAX_PIXELS // max(1, int(np.prod(kind.shape[1:])))))

    def images(samples: torch.Tensor) -> torch.Tensor:
        return samples.cpu() if isinstance(kind, Vector) else composite_on_white(to_images(samples.cpu()))

    def evenly(data: Dataset, number: int) -> np.ndarray:
        return np.unique(np.linspace(0, len(data) - 1, number).astype(np.int64))

    whole = reload_data(run, Reporter())
    data = frames(target(whole, output.field))
    stored = data.pictures(evenly(data, 2 * count))
    real = torch.from_numpy(stored) if isinstance(kind, Vector) else composite_on_white(images_to_tensor(stored))
    # Classes as often as in the data: all in turn would differ from it where some are rare.
    chosen = replace(whole, rows=whole.to_rows(evenly(whole, count)))
    conditions: dict[str, Any] = conditions_as_real(chosen, output.conditions, count)
    samples = images(model.sample(count, **conditions))
    defined = int(samples.flatten(1).isfinite().all(1).sum())
    return None if min(len(real), defined) < 2 else glance(samples, real, label_effect(model, min(count, LABELLED), images))


def label_effect(model: Model, n: int, images: Callable[[Tensor], Tensor]) -> float | None:
    """How much labels change n samples, over how much latents do, see `glance.effect_of_labels`; None for a model without labels.

    Args:
        model: the model.
        n: number of samples.
        images: samples as they are compared.
    """
    import torch

    from leafwing.metrics.glance import effect_of_labels

    classes = len(model.labels)
    if "label" not in model.output.conditions or classes < 2:
        return None
    latents, labels = model.latents(n + 1, seed=0), torch.arange(n) % classes
    others = (labels + 1 + torch.arange(n) // classes % (classes - 1)) % classes
    pairs = ((latents[:n], labels), (latents[:n], others), (latents[1:], labels))
    same: dict[str, Any] = {**model.conditions(n, label=labels)}  # attributes and captions, which would follow the class
    return effect_of_labels(*(images(model.generate(z, **same | {"label": y})) for z, y in pairs))


def try_to_look(run: Run) -> tuple[Glance | None, str]:
    """`look`, and why it was not possible: a training that is done must not fail because of it."""
    try:
        return look(run), ""
    except Exception as error:
        return None, f"The samples were not measured: {reason_of(error)}"


def try_to_animate(run: Run) -> tuple[Path | None, str]:
    """The reel of a run, and why there is none: likewise, because of a damaged grid for instance.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        return reel(run.folder), ""
    except StorageError:
        raise
    except Exception as error:
        return None, f"The reel was not made: {reason_of(error)}"


def reason_of(error: Exception) -> str:
    """The first line of what an error says; with its type where that alone says little."""
    says_why = isinstance(error, LeafwingError | OSError | RuntimeError) and str(error)
    return str(error if says_why else f"{type(error).__name__}: {error}").splitlines()[0]
