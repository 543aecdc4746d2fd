"""``make ecosystem``: lint over public repositories at pinned commits, and what has changed since another version.

    python -m bench.ecosystem                      # what this version finds, counted by repository and rule
    python -m bench.ecosystem --since v0.1.0       # the findings that are new since then, and those that are gone

Repositories are fetched once, into ``~/.cache/batchproof/ecosystem`` (``--folder`` names another); those that cannot be
reached are named and left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
FOLDER = Path.home() / ".cache" / "batchproof" / "ecosystem"
REPOSITORIES = Path(__file__).with_name("ecosystem.txt")


class Pinned(NamedTuple):
    name: str
    commit: str


class Found(NamedTuple):
    """A finding without its line, which moves with the code around it."""

    repository: str
    path: str
    code: str
    message: str


def pinned() -> list[Pinned]:
    """The repositories, one on a line: its name and the commit."""
    return [Pinned(*line.split()) for line in REPOSITORIES.read_text(encoding="utf-8").splitlines() if line.strip()]


def fetched(one: Pinned, folder: Path) -> Path | None:
    """The repository at its commit, in the folder; None where it cannot be fetched."""
    place = folder / one.name.replace("/", "__")
    if not place.is_dir():
        partial = place.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        steps = (
            ("init", "--quiet"),
            ("fetch", "--quiet", "--depth", "1", f"https://github.com/{one.name}", one.commit),
            ("checkout", "--quiet", "FETCH_HEAD"),
        )
        for step in steps:
            if subprocess.run(["git", *step], cwd=partial, capture_output=True, check=False).returncode:
                return None
        partial.rename(place)
    return place


def findings(place: Path, name: str, source: Path) -> Iterator[Found]:
    """What lint finds in a repository, by the batchproof of a source folder."""
    done = subprocess.run(
        [sys.executable, "-m", "batchproof", "lint", "--format", "json", "--exit-zero", "."],
        cwd=place, env={"PYTHONPATH": str(source / "src"), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"lint failed on {name}: {done.stderr.strip()[-300:]}")
    data = json.loads(done.stdout)
    rows = data["findings"] if isinstance(data, dict) else data
    return (Found(name, row["path"], row["code"], row["message"]) for row in rows)


def difference(before: Counter[Found], now: Counter[Found]) -> Iterator[str]:
    """The findings that are gone, and those that are new."""
    for sign, found in (("-", before - now), ("+", now - before)):
        for one, count in sorted(found.items()):
            times = f" ({count} times)" if count > 1 else ""
            yield f"{sign} {one.repository} {one.path}: {one.code} {one.message}{times}"


@click.command()
@click.option("--since", help="A revision of batchproof to compare with.")
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where repositories are kept.")
def main(since: str | None, folder: Path) -> None:
    """Lint public repositories."""
    with tempfile.TemporaryDirectory() as scratch:
        older = Path(scratch) / "older"
        if since is not None:
            subprocess.run(["git", "worktree", "add", "--quiet", "--detach", older, since], cwd=ROOT, check=True)
        try:
            unreached = list(_shown(folder, older if since is not None else None))
        finally:
            if since is not None:
                subprocess.run(["git", "worktree", "remove", "--force", older], cwd=ROOT, check=False)
    if unreached:
        click.echo(f"not reached: {', '.join(unreached)}")


def _shown(folder: Path, older: Path | None) -> Iterator[str]:
    """Print each repository's findings, or their difference; gives those that were not reached."""
    for one in pinned():
        place = fetched(one, folder)
        if place is None:
            yield one.name
            continue
        now = Counter(findings(place, one.name, ROOT))
        if older is None:
            codes = Counter(found.code for found in now.elements())
            counts = ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))
            click.echo(f"{one.name}: {counts or 'nothing'}")
            continue
        for line in difference(Counter(findings(place, one.name, older)), now):
            click.echo(line)


if __name__ == "__main__":
    main()
