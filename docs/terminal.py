"""Reports in colour: where a page shows a command of batchproof and what it prints, the built page has the real thing.

In the source these are plain ``console`` blocks, which GitHub shows and the tests hold to what is printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from rich.text import Text
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from picture import COMMAND, PICTURE, is_current, pieces
from shell import PROMPT, printed

OPENING = f"{PROMPT}batchproof "
logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-get-outdated", _with_reports)
    app.connect("doctree-read", _coloured)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _with_reports(_: Sphinx, env: BuildEnvironment, *__: Any) -> list[str]:
    """Pages are read again although they are the same: what they show may have changed."""
    return [name for name in env.found_docs if f"\n{OPENING}" in Path(env.doc2path(name)).read_text(encoding="utf-8")]


def _coloured(_: Sphinx, tree: nodes.document) -> None:
    for block in list(tree.findall(nodes.literal_block)):
        first = block.astext().partition("\n")[0]
        if first.startswith(OPENING):
            command = first.removeprefix(PROMPT)
            lines = printed(command)
            block.replace_self(nodes.raw("", html(lines), format="html"))
            if command == COMMAND and not is_current(lines):
                logger.warning("%s shows a report that looks otherwise by now: make refresh", PICTURE, location=block)


def html(lines: Iterable[Text]) -> str:
    """A terminal in a page."""
    body = "\n".join("".join(map(_span, pieces(line))) for line in lines)
    return f'<div class="terminal highlight notranslate"><pre tabindex="0">{body}</pre></div>\n'


def _span(piece: tuple[str, str]) -> str:
    text, look = piece
    return f'<span class="{look}">{escape(text)}</span>' if look else escape(text)
