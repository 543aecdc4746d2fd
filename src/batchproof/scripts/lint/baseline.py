"""Findings that are known already, kept in a file, so that only new ones fail.

A finding is known by its rule, its file, its function and its statement, and by how many there are that are alike: not
by its line, which moves with every edit above it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.scripts.lint.finding import Linted, LintFinding

SCHEMA = "batchproof/lint-baseline/1"


@dataclass(frozen=True, order=True)
class KnownFinding:
    """An entry of a baseline.

    Attributes:
        path: the file, from the baseline's folder, with slashes.
        code: the rule's.
        function: what the statement stands in, as in "Trainer.evaluate"; empty at the top of a file.
        statement: the code that is pointed at, on one line.
        count: how many findings it stands for.
    """

    path: str
    code: str
    function: str
    statement: str
    count: int = 1

    @property
    def key(self) -> tuple[str, ...]:
        """What findings are compared by: layout and quotes do not count, as a formatter may change them."""
        bare = re.sub(r"\s", "", self.statement).replace("'", '"')
        return self.path, self.code, self.function, re.sub(r",(?=[)\]}])", "", bare)


@dataclass(frozen=True)
class Baseline:
    """The file, and what it holds."""

    file: Path
    entries: tuple[KnownFinding, ...] = ()

    def entry(self, finding: LintFinding) -> KnownFinding:
        """The entry that a finding would have here."""
        return KnownFinding(self.name_of(finding.path), finding.code, finding.function, finding.statement)

    def name_of(self, path: str) -> str:
        """A file as entries call it."""
        return os.path.relpath(path, self.file.parent).replace(os.sep, "/")

    def exists(self, entry: KnownFinding) -> bool:
        """Whether an entry's file is still there."""
        return (self.file.parent / entry.path).exists()


#: A linted file, the rules that it was held against, and its baseline.
Judged = tuple[Linted, Collection[str], Baseline | None]


def read(file: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BatchproofError: there is none, or it is something else.
    """
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        how = f"batchproof lint --write-baseline {file} writes it"
        raise BatchproofError(f"the baseline {file} cannot be read ({error.strerror or error}); {how}") from None
    except ValueError:
        data = None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = f"its schema is {schema!r}, not {SCHEMA!r}" if schema else f"it has no schema {SCHEMA!r}"
        raise BatchproofError(f"{file} is no baseline of lint: {found}")
    try:
        return Baseline(file, tuple(KnownFinding(**entry) for entry in data["findings"]))
    except (KeyError, TypeError):
        raise BatchproofError(f"{file} is no baseline of lint: its findings are not understood") from None


def marked(files: Iterable[Judged]) -> tuple[list[Linted], list[tuple[Baseline, KnownFinding]]]:
    """The files with their findings told as known or new, and the entries that nothing was found for.

    Of findings that are alike, as many as the baseline counts are known, from the top of the file on.
    """
    files = list(files)
    left = {id(used): _counts(used) for used in _used(files)}
    found = [
        linted if used is None else replace(linted, findings=tuple(_told(linted.findings, used, left[id(used)])))
        for linted, _, used in files
    ]
    stale = []
    for used in _used(files):
        is_judged = _judges(used, files)
        for entry in used.entries:
            count = min(entry.count, left[id(used)][entry.key])
            left[id(used)][entry.key] -= count
            if count and (is_judged(entry) or not used.exists(entry)):
                stale.append((used, replace(entry, count=count)))
    return found, stale


def _counts(used: Baseline) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for entry in used.entries:
        counts[entry.key] += entry.count
    return counts


def _told(findings: Iterable[LintFinding], used: Baseline, left: Counter[tuple[str, ...]]) -> Iterator[LintFinding]:
    for finding in findings:
        key = used.entry(finding).key
        is_known = left[key] > 0
        left[key] -= is_known
        yield replace(finding, is_known=is_known)


def _used(files: Sequence[Judged]) -> list[Baseline]:
    return list({id(used): used for _, _, used in files if used is not None}.values())


def _judges(used: Baseline, files: Iterable[Judged]) -> Callable[[KnownFinding], bool]:
    """Whether an entry's file was read and held against its rule."""
    codes = {used.name_of(linted.path): codes for linted, codes, other in files if other is used and linted.is_read}
    return lambda entry: entry.code in codes.get(entry.path, ())


def content(file: Path, files: Sequence[tuple[Linted, Collection[str]]]) -> bytes:
    """A baseline of these findings; of a file that is there already, what was not looked at stays.

    Raises:
        BatchproofError: there is a file, and it is no baseline.
    """
    before = read(file) if file.exists() else Baseline(file)
    is_judged = _judges(before, ((linted, codes, before) for linted, codes in files))
    kept = [entry for entry in before.entries if before.exists(entry) and not is_judged(entry)]
    counts = Counter(before.entry(finding) for linted, _ in files for finding in linted.findings)
    found = [replace(entry, count=count) for entry, count in counts.items()]
    data: dict[str, Any] = {"schema": SCHEMA, "findings": [asdict(entry) for entry in sorted(kept + found)]}
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
