"""A comparison that takes seconds, and plans that are not carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leafwing import commands
from leafwing.commands.comparison import compare
from leafwing.commands.comparison.plan import ComparisonPlan

OPTIONS = ("latent=2", "batch=50", "width=8", "gan.width_d=8", "gan.dropout=0")
RING: dict[str, Any] = {"recipes": "gan,lsgan", "seeds": 2, "images": 600, "options": OPTIONS, "n": 200, "jobs": 2}
"""Arguments of `compare` besides the source "ring"."""
Finished = tuple[Path, dict[str, Any]]
"""The folder of a finished comparison, and its table."""


def plan_of(source: str, out: Path, **arguments: Any) -> ComparisonPlan:
    """The plan of a comparison, which is stopped before it writes anything."""
    plans: list[ComparisonPlan] = []
    resolve = compare.resolve_comparison

    def stop(folder: Path) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "resolve_comparison", lambda *given: plans.append(resolve(*given)) or plans[0])
        patch.setattr(compare, "open_record", stop)
        with pytest.raises(KeyboardInterrupt):
            commands.compare(source, **arguments, out=out)
    return plans[0]
