"""``python docs/files.py > docs/files.md``: every file of the source with the first line of its docstring."""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "batchproof"


def page() -> str:
    """The page: a table for each room."""
    parts = ["# Every file\n", "The rooms are those of [the architecture](architecture.md)."]
    for folder, files in groupby(
        sorted(SOURCE.rglob("*.py"), key=lambda path: (path.parent, path)), lambda p: p.parent
    ):
        room = folder.relative_to(SOURCE).as_posix()
        parts.append(f"\n## {'batchproof' if room == '.' else room}\n\n| file | what it holds |\n| --- | --- |")
        parts += [f"| `{path.name}` | {_first_line(path)} |" for path in files]
    return "\n".join(parts) + "\n"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.partition("\n\n")[0].split())
    return sentence.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
