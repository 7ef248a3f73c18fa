"""Hardware settings of an earlier run on this machine: the threads of another number of processes, and what is slow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from leafwing.machine import cores
from leafwing.quantities import plural
from leafwing.runs import Run, train_again
from leafwing.settings import HardwareSettings, replace_fields

if TYPE_CHECKING:
    from leafwing.engine.processes import Processes


def divide_threads(
    machine: HardwareSettings,
    values: Mapping[str, Any],
    before: int,
    processes: Processes | None,
    say: Callable[[str], None],
) -> HardwareSettings:
    """The settings of a run for another number of processes, which share its threads: no more than the cores, at least one each.

    Args:
        machine: the settings of the run.
        values: the settings that the user chose; a number of threads stays.
        before: its processes on each machine.
        processes: those that share the work now; None: this one only.
        say: receives a message about another number of threads.
    """
    now = processes.local_world_size if processes else 1
    if now == before or "threads" in values or not isinstance(machine.threads, int):
        return machine
    threads = max(1, min(machine.threads * before, cores()) // now)
    if threads != machine.threads:
        say(
            f"CPU threads per process (--threads): {threads} with {now}, because the run had {machine.threads} with {before}"
        )
    return replace_fields(machine, {"threads": threads})


def slow_here(
    machine: HardwareSettings, values: Mapping[str, Any], processes: Processes | None, run: Run | None = None
) -> list[str]:
    """What makes a training with these settings slow on this machine, each with what can be done.

    Args:
        machine: the settings, resolved.
        values: the settings that the user chose.
        processes: those that share the work; None: this one only.
        run: whose settings these are; None for a new training.
    """
    import torch

    from leafwing.engine.setup import fast_bf16

    texts, device = [], str(machine.device)
    is_known = device == "cpu" or (device.startswith("cuda") and torch.cuda.is_available())
    if run and machine.precision == "bf16" and "precision" not in values and is_known and not fast_bf16(device):
        texts.append(
            "this run computes in bf16, which is slow on this machine, perhaps many times slower than fp32. Its weights are exact "
            f"only with its precision; `leafwing {train_again(run)} --precision fp32` begins anew in fp32"
        )
    count = processes.local_world_size if processes else 1
    threads, available = machine.threads, cores()
    if device == "cpu" and isinstance(threads, int) and threads * count > available:
        who = f"{threads} CPU threads" + (f" in each of {count} processes" if count > 1 else "")
        rounding = ", and then the weights match up to rounding" if run else ""
        texts.append(
            f"{who} share {plural(available, 'core')} and wait for each other: --threads {max(1, available // count)} is "
            f"faster{rounding}"
        )
    return texts
