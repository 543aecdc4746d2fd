"""Runs that were made before: kept under ``.batchproof/cache``, and used again while nothing that they read changed.

An entry's name says what was run: the setting, and all that `inputs.py` knows of what it depends on.  The entry itself
lists what else the run was seen to read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.report import save
from batchproof.report.result import from_plain
from batchproof.scripts.compare.inputs import ReadFolders, Stamp, digest, stamp
from batchproof.scripts.compare.record import RunOutcome, Setting

FOLDER = Path(".batchproof") / "cache"
#: Raised when entries written before say something else than they do now.
FORMAT = 4


@dataclass(frozen=True)
class Cache:
    """The kept runs of one script with its arguments.

    Attributes:
        folder: where; None keeps nothing.
        key: of what is run, and of all that it may depend on.
        inputs: the folders that the key is of: a run during which they changed is not kept.
    """

    folder: Path | None
    key: str = ""
    inputs: ReadFolders | None = None

    def read(self, setting: Setting) -> RunOutcome | None:
        """The run with this setting; None where there is none that still holds."""
        if self.folder is None:
            return None
        try:
            entry = json.loads(self._path(setting).read_text(encoding="utf-8"))
            if any(stamp(path) != seen for path, seen in entry["read"].items()):
                return None
            outcome: RunOutcome = from_plain(RunOutcome, entry["outcome"])
            return replace(outcome, cached=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # it was never there, or somebody has been at it: the run is made again

    def write(self, outcome: RunOutcome, read: dict[str, Stamp]) -> None:
        """Keep a run that came to its end; a cache that cannot be written is none.

        Args:
            outcome: of the run.
            read: the files and folders that it read outside of what the key is of, each with its stamp.
        """
        if self.folder is None or outcome.failed or outcome.unknowable or (self.inputs and not self.inputs.hold()):
            return
        entry = json.dumps({"outcome": asdict(outcome), "read": read})
        with contextlib.suppress(OSError, BatchproofError):
            self._make()
            save.write(self._path(outcome.setting), entry.encode())

    def files_of_ours(self, more: Iterable[Path]) -> frozenset[str]:
        """Reports that were written here, this time or before: no run depends on them."""
        if self.folder is None:
            return frozenset()
        listed = self.folder / "reports.txt"
        known = set(listed.read_text(encoding="utf-8").splitlines()) if listed.is_file() else set()
        found = known | {str(path.absolute()) for path in more}
        if found != known:
            with contextlib.suppress(OSError):
                self._make()
                listed.write_text("\n".join(sorted(found)) + "\n", encoding="utf-8")
        return frozenset(found)

    def _make(self) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        ignore = self.folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")

    def _path(self, setting: Setting) -> Path:
        assert self.folder is not None
        return self.folder / f"{digest([self.key, repr(setting)])}.json"
