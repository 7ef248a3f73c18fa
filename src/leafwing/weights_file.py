"""Weights files: safetensors with a checksum of the tensors, which the format does not have. Nothing here knows runs or games."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing.errors import LeafwingError
from leafwing.files import RESTORE, parse_json, require_file

if TYPE_CHECKING:
    from torch import Tensor


def serialise(tensors: Mapping[str, Tensor], **facts: Any) -> bytes:
    """The content of a weights file.

    Args:
        tensors: by name, contiguous and on the CPU.
        facts: what else is recorded, such as the number of images shown.
    """
    from safetensors.torch import save

    # A single entry of metadata, because the order of several differs between processes.
    return save(dict(tensors), {"checkpoint": json.dumps(facts | {"crc32": checksum(tensors)})})


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name. Files of earlier versions have no checksum.

    Raises:
        LeafwingError: it cannot be read, or its tensors are not those that were written.
    """
    return read_with_facts(path)[0]


def read_with_facts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a weights file, by name, and what is recorded with them; None in files of earlier versions.

    Raises:
        LeafwingError: it cannot be read, or its tensors are not those that were written.
    """
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            checkpoint = (file.metadata() or {}).get("checkpoint")
        facts = None if checkpoint is None else parse_json(checkpoint)
        is_intact = facts is None or facts["crc32"] == checksum(tensors)
    except (SafetensorError, OSError) as error:
        raise LeafwingError(f"{path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError):
        is_intact = False
    if not is_intact:
        raise LeafwingError(f"{path} is damaged: its checksum is not that of its content; {RESTORE}")
    return tensors, facts


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """The crc32 of all tensors in the order of their names, as 8 hexadecimal digits."""
    import torch

    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
