"""Messages about command lines that cannot be parsed: one sentence about the mistake, and the command to type."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Collection, Sequence

from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from leafwing.cli.extra import explain_extra, instead
from leafwing.cli.shared import option_values
from leafwing.errors import nearest

RUN = ": a run folder, its name or number, or 'last'"
EXAMPLES = {
    "RUN": RUN,
    "PICTURES": ": an image file, a folder or an archive",
    "SOURCE": ": a folder, an archive or a built-in data set",
    "TOOL": ", such as directions or interpolate",
}
"""What the required arguments of commands are."""


def explain(error: CycloptsError, words: Sequence[str], switches: Collection[str]) -> str:
    """The message about a command line that cannot be parsed.

    Args:
        error: of the parser.
        words: the command line.
        switches: the options of the command that take no value.
    """
    end = f"`leafwing {words[0]} --help` lists the options" if words and not words[0].startswith("-") else ""
    if isinstance(error, UnknownCommandError):
        return f"no option {words[0]} before a command; `leafwing --help` lists the commands, `leafwing COMMAND --help` their options"
    if isinstance(error, MissingArgumentError) and error.argument:
        return explain_missing(error, words)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{words[0]}: {explain_extra(error.unused_tokens[0], words, switches)}; {end}"
    if isinstance(error, UnknownOptionError):
        if text := explain_synonym(error, words):
            return text
        if words[:1] == ["train"]:
            from leafwing.cli.train import requested_recipe

            if recipe := requested_recipe(words[1:]):
                end = f"the options of {recipe}: leafwing train --recipe {recipe} --help"
        word = (error.token.keyword or error.token.value).partition("=")[0]
        near = nearest(word, [name for item in error.argument_collection for name in item.names])
        return f"{words[0]}: no option {word}{f'; did you mean {near}?' if near else ';'} {end}"
    if isinstance(error, CoercionError) and error.token is not None and error.token.keyword:
        option, value = error.token.keyword, error.token.value
        if error.target_type is bool:
            return f"{option} is on or off and takes no value: leave out {value!r}{instead(option, value)}; {end}"
        if error.target_type in (int, float):
            kind = "a whole number" if error.target_type is int else "a number"
            return f"{option} {value}: must be {kind}; {end}"
        # The choices are listed; a guess by spelling, such as cpu for gpu, misleads.
        return f"{str(error).partition(' Did you mean')[0].rstrip('.')}; {end}"
    return f"{error}; {end}" if end else str(error)


def explain_missing(error: MissingArgumentError, words: Sequence[str]) -> str:
    """The message about an argument, an option or a value that is missing."""
    from leafwing.cli.synonyms import ARGUMENTS

    assert error.argument is not None
    name, command = error.keyword or error.argument.name, " ".join(error.command_chain or ())
    if name in words:
        # `resume` takes any option, because those of the run's recipe are among them.
        is_open = error.argument.field_info.kind is inspect.Parameter.VAR_KEYWORD
        or_none = f", or is not an option of {command}" if is_open else ""
        return f"{name} needs a value{or_none}; `leafwing {command} --help` says which"
    if name.startswith("--"):
        usage = f"leafwing {command} {ARGUMENTS[command]}"
        return f"{command}: {name} is required: type {usage}; leafwing {command} --help explains it"
    if command == "prepare" and (flag := next((word for word in ("--landmarks", "--boxes") if word in words[:-1]), None)):
        value = shlex.quote(words[words.index(flag) + 1])
        return f"prepare: {flag} takes {value} as its list; the source comes first: leafwing prepare {value} {flag} --out FOLDER"
    example = EXAMPLES.get(name, "") + ", before --source" * (name == "RUN" and "--source" in words)
    usage = f"leafwing {command} {ARGUMENTS.get(command, name)}"
    if name == "TOOL":
        run = next((word for word in words[1:] if not word.startswith("-")), "RUN")
        usage = f"leafwing explore {shlex.quote(run)} directions"
        return f"{command}: missing TOOL{example}; type {usage}; `leafwing explore --help` lists the tools"
    return f"{command}: missing {name}{example}; type {usage}"


def explain_synonym(error: UnknownOptionError, words: Sequence[str]) -> str:
    """The message about an option that has another name here; empty if it is not known."""
    from leafwing.option_names import explain_option

    word, _, value = (error.token.keyword or error.token.value).partition("=")
    known = {name.lstrip("-"): item.parameter.help or "" for item in error.argument_collection for name in item.names}
    pace = None
    if words[0] in ("train", "compare"):
        from leafwing.cli.train import pace_of

        pace = pace_of(words)
    if words[0] == "compare":
        from leafwing.cli.compare import explain_lacking

        if text := explain_lacking(word, words):
            return text
    return explain_option(words[0], word, value or option_values(words).get(word, ""), known, pace)
