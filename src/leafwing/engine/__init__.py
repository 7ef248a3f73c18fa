"""How a turn is executed, and where: device, precision, memory layout, threads. Names no GAN family.

The engine decides from measurements and from `Term.second_order`, never from the method. `loop` decides when to move, log or save.
"""

from leafwing.engine.setup import (
    DEVICES,
    PRECISIONS,
    Setup,
    choose,
    fast_bf16,
    isolated,
    keep_freed_memory,
    peak_memory,
    synchronise,
)
from leafwing.engine.turns import Engine

__all__ = [
    "DEVICES",
    "PRECISIONS",
    "Engine",
    "Setup",
    "choose",
    "fast_bf16",
    "isolated",
    "keep_freed_memory",
    "peak_memory",
    "synchronise",
]
