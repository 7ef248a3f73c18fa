"""How a turn is executed, and on what: device, precision, memory layout, threads. No family's name.

The engine decides from what it measures and from `Term.input_gradient`, never from who asks. When to move, log or save is `loop`'s.
"""

from leafwing.engine.setup import DEVICES, PRECISIONS, Setup, choose, keep_freed_memory, memory, native_bf16, synchronise
from leafwing.engine.turns import Engine, optimiser

__all__ = [
    "DEVICES",
    "PRECISIONS",
    "Engine",
    "Setup",
    "choose",
    "keep_freed_memory",
    "memory",
    "native_bf16",
    "optimiser",
    "synchronise",
]
