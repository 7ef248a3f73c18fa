"""Protocols: every condition counts, and errors name the differences."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from leafwing.errors import LeafwingError
from leafwing.metrics.protocol import AS_REAL, Protocol, describe, fingerprint, require_same_protocol, upgrade

CATS = Protocol(
    data="ab" * 32,
    split="held-out",
    held_out=1000,
    n_real=1000,
    n_fake=1000,
    shape="64x64x3",
    fit="crop",
    background="white",
    mirror=False,
    conditions="defaults",
    features="own",
    network="cd" * 32,
    seed=0,
    precision="fp32",
)


def row(protocol: Protocol, metric: str = "fid", **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": 1.0, "protocol": protocol.as_dict(), "fingerprint": protocol.fingerprint, **more}


def changed(name: str) -> Protocol:
    value = getattr(CATS, name)
    return replace(
        CATS, **{name: (not value) if isinstance(value, bool) else value + (1 if isinstance(value, int) else "x")}
    )


@pytest.mark.parametrize("name", [field.name for field in fields(Protocol)])
def test_every_condition_is_part_of_the_fingerprint(name: str) -> None:
    assert changed(name).fingerprint != CATS.fingerprint


def test_the_fingerprint_is_stable() -> None:
    assert CATS.fingerprint == "8f8f4a5175de"  # stored in existing rows: it may only change with VERSION
    assert fingerprint(dict(reversed(CATS.as_dict().items()))) == CATS.fingerprint


@pytest.mark.parametrize("name", [field.name for field in fields(Protocol)])
def test_values_that_differ_in_a_condition_are_not_ranked(name: str) -> None:
    with pytest.raises(LeafwingError, match=rf"values of fid .* cannot be ranked: {name}: ") as caught:
        require_same_protocol([row(CATS), row(CATS), row(changed(name))])
    assert str(caught.value).count(": ") == 2, "an equal condition is named"


def test_the_error_names_the_runs_and_the_differences() -> None:
    other = replace(CATS, n_fake=5000, network="ef" * 32)
    with pytest.raises(LeafwingError) as caught:
        require_same_protocol([row(CATS, run="0001-a"), row(other, run="0002-b")])
    assert "(0001-a and 0002-b)" in str(caught.value)
    assert "n_fake: 1,000 and 5,000" in str(caught.value)
    assert "network: cdcdcdcdcdcd and efefefefefef." in str(caught.value)
    assert "seed" not in str(caught.value).partition(". Evaluate")[0]


def test_different_metrics_may_have_different_protocols() -> None:
    rows = [row(CATS), row(changed("features"), "swd"), row(CATS), row(changed("features"), "swd")]
    assert require_same_protocol(rows) is None


def test_values_of_one_protocol_are_accepted() -> None:
    for rows in ([row(CATS, run="a"), row(CATS, run="b")], []):
        assert require_same_protocol(rows) is None


def test_a_condition_missing_on_one_side_differs() -> None:
    old = row(CATS)
    del old["protocol"]["precision"]
    with pytest.raises(LeafwingError, match="precision: None and fp32"):
        require_same_protocol([old, row(CATS)])


def test_the_description_names_all_conditions() -> None:
    text = describe(CATS.as_dict())
    for part in ("1,000 samples vs. 1,000 held-out images", "64x64x3", "crop", "lanczos", "own cdcdcdcd", "seed 0"):
        assert part in text
    assert text.endswith(f"fingerprint {CATS.fingerprint}")
    assert "circular" not in text
    assert "circular: trained through lite0" in describe(replace(CATS, trained_through="lite0").as_dict())
    assert "not unseen: trained on" in describe(replace(CATS, trained_on_held_out=True).as_dict())
    assert "held out by" not in text
    assert (
        "1,000 held-out images, 64x64x3, crop, lanczos, default conditions, features own cdcdcdcd, held out by input"
        in describe(replace(CATS, held_out_by="input").as_dict())
    )
    points = describe(replace(CATS, shape="points", features="", network="").as_dict())
    assert "features" not in points
    assert "crop" not in points
    assert "mirrored" in describe(replace(CATS, mirror=True).as_dict())
    assert "output" not in text
    assert "output input" in describe(replace(CATS, output="input").as_dict())
    clips = describe(replace(CATS, shape="16x64x64x3").as_dict())
    assert "held-out clips" in clips
    assert "all frames as images" in clips


# --- rows of earlier versions --------------------------------------------------------------------------------------------

FIRST = replace(CATS, version=1)


def earlier(labels: str = "in turn", **more: Any) -> dict[str, Any]:
    """A row as it was stored when classes and attributes were the only conditions."""
    protocol = {name: value for name, value in FIRST.as_dict().items() if name not in ("output", "conditions")} | {
        "labels": labels
    }
    return {"metric": "fid", "value": 1.0, "protocol": protocol, "fingerprint": fingerprint(protocol), **more}


def test_a_row_of_an_earlier_version_gets_the_protocol_of_today() -> None:
    old = earlier(words="none")
    assert old["fingerprint"] == "a8ca1241c50c", "as it was stored"
    assert upgrade(old) == row(FIRST, words="none")
    assert upgrade(earlier(AS_REAL))["fingerprint"] == replace(FIRST, conditions=AS_REAL).fingerprint
    assert "labels" in old["protocol"], "the row itself was changed"


def test_rows_of_both_versions_are_ranked_together() -> None:
    require_same_protocol([earlier(), earlier()])
    require_same_protocol([upgrade(earlier()), row(FIRST), upgrade(earlier())])
    with pytest.raises(LeafwingError, match=f"cannot be ranked: conditions: {AS_REAL} and defaults"):
        require_same_protocol([upgrade(earlier(AS_REAL)), row(FIRST)])


def test_other_rows_are_unchanged() -> None:
    for other in (row(FIRST), {"metric": "fid"}):
        assert upgrade(other) == other
