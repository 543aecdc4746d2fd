"""The page of the command line, put where ``{commands}`` stands: what ``--help`` says of each verb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from batchproof.cli import COMMANDS, batchproof

PLACE, PAGE = "{commands}", "command-line"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-get-outdated", _always)
    app.connect("source-read", _filled)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _always(_: Sphinx, env: BuildEnvironment, *__: Any) -> list[str]:
    """The page is read again although it is the same: the commands may have changed."""
    return [PAGE] if PAGE in env.found_docs else []


def _filled(_: Sphinx, __: str, source: list[str]) -> None:
    source[0] = re.sub(rf"^{re.escape(PLACE)}$", lambda _: "\n".join(_page()), source[0], flags=re.MULTILINE)


def _page() -> Iterator[str]:
    top = click.Context(batchproof, info_name="batchproof", **batchproof.context_settings)
    commands = {name: batchproof.get_command(top, name) for name in COMMANDS}
    yield "| command | what it answers |\n| --- | --- |"
    for name, command in commands.items():
        assert command is not None
        yield f"| [`batchproof {name}`](#batchproof-{name}) | {command.get_short_help_str(200)} |"
    for name, command in commands.items():
        assert command is not None
        yield from _section(command, click.Context(command, top, info_name=name))


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"\n## batchproof {context.info_name}\n"
    yield f"```sh\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield f"{_text(command.help or '')}\n"
    yield "| option | what it does |\n| --- | --- |"
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [option.get_help_record(context) for option in options]
    yield from (f"| {_option(record[0])} | {_text(record[1])} |" for record in records if record is not None)
    yield from (_after(part.removeprefix("\b\n")) for part in (command.epilog or "").split("\n\n"))


def _option(spelling: str) -> str:
    return ", ".join(f"`{part}`" for part in spelling.replace("|", "\\|").split(", "))


def _text(text: str) -> str:
    """As running text: options, places to fill in and paths are code, and nothing else is Markdown."""
    code = r"(?<![\w`-])(--?[a-z][\w-]*(?: [A-Z]+\b)?|--(?=[;, ])|\{\w+\}|\.\w+/[\w./]+|# noqa: BP101)(?![\w`])"
    return re.sub(code, r"`\1`", text.replace("|", "\\|").replace("  [", " [").replace("[", "\\["))


def _after(part: str) -> str:
    """What stands below the options: examples are code, the rest is text."""
    first, _, rest = part.partition("\n")
    lines = rest.splitlines()
    if lines and all(line.startswith("  ") for line in lines):
        code = "\n".join(line.removeprefix("  ") for line in lines)
        return f"\n{_text(first)}\n\n```text\n{code}\n```"
    return f"\n{_text(part)}"
