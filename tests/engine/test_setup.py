"""How a device is chosen and used."""

from __future__ import annotations

import pytest
import torch

from leafwing.engine import setup


@pytest.mark.parametrize(
    ("capabilities", "processor", "fast"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "Intel(R) Xeon(R) Processor", True),
        ({"avx512_bf16": True}, "Intel(R) Xeon(R) Processor", False),
        ({"avx512_bf16": True}, "AMD EPYC 9B14", True),
        ({"avx2": True}, "AMD EPYC 7B13", False),
    ],
)
def test_bf16_is_chosen_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], processor: str, fast: bool
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    monkeypatch.setattr(setup, "processor", lambda: processor)
    chosen = setup.choose("cpu")
    assert chosen.precision == ("bf16" if fast else "fp32")
    assert processor in chosen.why["precision"]
    assert chosen.products == bool(capabilities.get("amx_bf16"))


def test_a_device_of_torch_is_one_by_its_name() -> None:
    assert setup.choose(torch.device("cpu")) == setup.choose("cpu")
