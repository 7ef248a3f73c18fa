"""Seeded mutations of files, and values that no option should accept unnoticed."""

from __future__ import annotations

import json
import random
from typing import Any

HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1e308, 1e-320, -0.0, float("nan"), float("inf"), "", "x" * 3000,
    "\x1b[31mred\x07", "\u202egnp", "٣", "../../etc/passwd", "\ud800", [], {}, [[]], [None], {"": None}, [1, "a"], "nan", "1e999",
]  # fmt: skip
"""Values that replace a part of a JSON document."""
NUMBERS = [
    "-1", "-0", "-0.0", "0", "0.0", "1", "2", "3.5", "1e3", "1e9", "1e308", "1e400", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "nan", "NaN", "inf", "-inf", "infinity", "６４", "٣", "²", "1_000", "1,000", "0x10", "1k", "1e3k", "200k",
    "999999999999999g",
]  # fmt: skip
OPTION_VALUES = [
    *NUMBERS, "9" * 30, "9" * 400, "9" * 5000, "0." + "0" * 400 + "1", "", " ", "-", "--", "true", "None", "null", "[1]", "{}",
    "a" * 300, "a" * 5000, "\x1b[31mred",  "\n", "\udcff", "😀", "../..", "/", "/dev/null", "/dev/stdin", "64x", "x64",
    "64x64x64", "64x96", "1:2", "2:1", ":", "=", "a=b", "a=", "=b", "%", "1%:99%", "nan:inf", "auto", "none", "last", "best", "+10",
    "+", "10m", "1h30", "p=2", "p=nan", "D:4", "D:-1", "D:99999999999", "#fff", "#ggg", "red", "1,2,3", "0:1000000000000",
    "0-999999999",
    "$(id)", "`id`", "*",
]  # fmt: skip
"""Values for options of any kind."""


def mutate(content: bytes, name: str, seed: int) -> bytes:
    """A file with one or a few faults, the same for the same arguments.

    Args:
        content: the valid file.
        name: its name, whose ending says what it contains.
        seed: number of the mutation.
    """
    rng = random.Random(f"{name} {seed}")
    if name.endswith((".json", ".jsonl")) and rng.random() < 0.7:
        lines = content.decode().splitlines() if name.endswith("l") else [content.decode()]
        chosen = rng.randrange(len(lines))
        lines[chosen] = _mutate_json(lines[chosen], rng)
        return "\n".join(lines).encode(errors="surrogatepass")
    if name.endswith((".csv", ".txt", ".xml")) and rng.random() < 0.6:
        return _mutate_text(content.decode(), rng).encode(errors="surrogatepass")
    return _mutate_bytes(bytearray(content), rng)


def _mutate_json(text: str, rng: random.Random) -> str:
    if rng.random() < 0.05:
        return "[" * 100_000 if rng.random() < 0.5 else text[:-2] + ', "deep": ' + "[" * 2_000 + "]" * 2_000 + "}"
    try:
        document = json.loads(text)
    except ValueError:  # documents of the cache begin with a checksum
        return _mutate_text(text, rng)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            collect(node[key])

    collect(document)
    for _ in range(rng.choice((1, 1, 1, 3))):
        node, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.2 and isinstance(node, dict):
            node.pop(key, None)
        elif kind < 0.3 and isinstance(node, dict):
            node[rng.choice(("further", "", "\x1b[2J", "x" * 300))] = rng.choice(HOSTILE)
        elif isinstance(node, dict) or key < len(node):
            node[key] = rng.choice(HOSTILE)
    return json.dumps(rng.choice(HOSTILE) if rng.random() < 0.03 else document, ensure_ascii=rng.random() < 0.5)


def _mutate_text(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    chosen = rng.randrange(len(lines))
    cells = lines[chosen].split(",")
    value = rng.choice([*OPTION_VALUES, *map(str, HOSTILE)])
    action = rng.random()
    if action < 0.6:
        cells[rng.randrange(len(cells))] = value
        lines[chosen] = ",".join(cells)
    elif action < 0.8:
        lines.insert(chosen, rng.choice((value, lines[chosen], '"', ",,,,,", lines[chosen] + "," + value)))
    else:
        lines.pop(chosen)
    return "\n".join(lines)


def _mutate_bytes(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(max(1, min(len(content), 400 if rng.random() < 0.6 else len(content))))
        action = rng.randrange(7)
        if action == 0:
            del content[at:]
        elif action == 1 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif action == 2:
            content[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"))
        elif action == 3:
            content[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        elif action == 4:
            del content[at : at + rng.choice((1, 4, 100))]
        elif action == 5:
            digits = [place for place, byte in enumerate(content[:4000]) if 48 <= byte <= 57]
            if digits:
                content[rng.choice(digits)] = rng.choice(b"0123456789-e")
        else:
            content[at : at + 8] = rng.choice(
                (b"\x1b[31m", b"%!PS-Adobe", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x93NUMPY")
            )
    return bytes(content)
