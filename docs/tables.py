"""Writes the tables of settings in docs/guide/commands.md, from the settings themselves: `make docs`. A test compares them."""

from __future__ import annotations

import re
from pathlib import Path

from leafwing.settings import SECTIONS, Setting, all_settings

PAGE = Path(__file__).parent / "guide" / "commands.md"


def flags(setting: Setting) -> str:
    """The flags of a setting, those that can be negated with both forms."""
    name = setting.name.replace("_", "-")
    return f"`--{name}` `--no-{name}`" if setting.type is bool else f"`--{name}`"


def table(section: str) -> str:
    """The settings of a section as a Markdown table."""
    rows = ["| option | meaning | default |", "| --- | --- | --- |"]
    for setting in all_settings().values():
        if setting.section == section:
            meaning, _, default = setting.help.partition(" Default: ")
            if setting.choices:
                meaning = f"{meaning} Values: {', '.join(f'`{choice}`' for choice in setting.choices)}."
            rows.append(
                re.sub(r"(?<!`)(--[a-z-]+)", r"`\1`", f"| {flags(setting)} | {meaning} | {default.removesuffix('.')} |")
            )
    return "\n".join(rows)


def update_tables(text: str) -> str:
    """The page with its tables made anew; each stands between two comments that name its section."""
    for section in SECTIONS:
        pattern = rf"(<!-- settings: {section} -->\n\n).*?(\n\n<!-- end -->)"
        text, n = re.subn(pattern, lambda found: f"{found[1]}{table(section)}{found[2]}", text, flags=re.DOTALL)  # noqa: B023
        assert n == 1, f"{PAGE} has no place for the table of {section!r}"
    return text


if __name__ == "__main__":
    PAGE.write_text(update_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
