"""Which files a path, a folder or a pattern names, all of one kind, and what the names of their folders say."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from batchproof.errors import BatchproofError
from batchproof.ground.text import listed

_PACKED = ("", ".gz", ".bz2", ".zst", ".lz4")
_TEXT = {".csv": "csv", ".tsv": "tsv"}
#: The kind of a file by how its name ends.
KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".ipc": "feather",
    **{ending + packed: kind for ending, kind in _TEXT.items() for packed in _PACKED},
    ".npz": "npz",
    ".npy": "npy",
    ".pt": "pt",
    ".pth": "pt",
}
_KNOWN = ".parquet, .feather, .csv, .tsv, .npz, .npy or .pt"
#: What lies beside data and holds none.
_BESIDE = (".crc", ".html", ".json", ".log", ".md", ".md5", ".png", ".rst", ".sha256", ".svg", ".txt", ".yaml", ".yml")
_BEGINNINGS = {b"PAR1": "parquet", b"ARROW1": "feather"}


@dataclass(frozen=True)
class Listing:
    """Files of one kind, in the order of their names."""

    title: str
    kind: str
    files: tuple[Path, ...]
    folders: tuple[dict[str, str | None], ...]  # for each file what `user=3` folders say


def list_files(data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Listing:
    """The files of a path, a folder, a pattern, or several of these.

    Raises:
        BatchproofError: there is none, or they are of several kinds.
    """
    named = [os.fspath(data)] if isinstance(data, (str, os.PathLike)) else [os.fspath(one) for one in data]
    title = ", ".join(named) if len(named) < 4 else f"{named[0]} and {len(named) - 1:,} more"
    found = {file: base for name in named for file, base in _named_by(name)}
    if not found:
        raise BatchproofError("there are no files: name at least one")
    kinds = {file: _kind(file) for file in found}
    if None in kinds.values():
        odd = next(file for file, kind in kinds.items() if kind is None)
        raise BatchproofError(
            f"{odd}: cannot read {odd.suffix or 'such'} files; use {_KNOWN}"
            + ("" if len(found) == 1 else f", and name the others with a pattern, such as '{_pattern(found, kinds)}'")
        )
    if len(set(kinds.values())) > 1:
        counts = [
            f"{list(kinds.values()).count(kind):,} {kind}" for kind in sorted({str(kind) for kind in kinds.values()})
        ]
        raise BatchproofError(
            f"{title} holds files of several kinds, {listed(counts)}: name those that are meant, such as "
            f"'{_pattern(found, kinds)}'"
        )
    files = tuple(found)
    return Listing(title, str(kinds[files[0]]), files, tuple(_folders(file, base) for file, base in found.items()))


def _named_by(name: str) -> Iterator[tuple[Path, Path]]:
    """Each file, and the folder below which names of folders are read."""
    if re.match(r"\w{2,}://", name):
        raise BatchproofError(
            f"{name} is not on this machine: from Python, give batchproof.score pyarrow.dataset.dataset({name!r})"
        )
    path = Path(name).expanduser()
    if path.is_dir():
        inside = [(file, path) for file in _below(path)]
        if not inside:
            raise BatchproofError(f"{path} holds no data: no {_KNOWN} file is in it")
        yield from inside
    elif path.exists():
        yield path, path.parent
    elif glob.has_magic(name):
        yield from _matching(path)
    else:
        raise BatchproofError(f"there is no file {path}{_nearest(path)}")


def _matching(pattern: Path) -> Iterator[tuple[Path, Path]]:
    parts = pattern.parts
    base = Path(*parts[: next(place for place, part in enumerate(parts) if glob.has_magic(part))])
    matches = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207  the shell's rules for hidden names
    inside = [Path(match) for match in matches]
    files = [file for path in inside for file in (_below(path) if path.is_dir() else [path] if _is_data(path) else [])]
    if not files:
        near = f": {base} is no folder" if not base.is_dir() else _what_is_in(base)
        raise BatchproofError(f"no file matches {str(pattern)!r}{near}")
    for file in dict.fromkeys(files):
        yield file, base


def _what_is_in(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not _is_hidden(entry.name))
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f": {folder} holds {names[0]}{more}" if names else f": {folder} is empty"


def _nearest(path: Path) -> str:
    import difflib

    if not path.parent.is_dir():
        return f": {path.parent} is no folder"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f": did you mean {path.parent / near[0]}?" if near else ""


def _below(folder: Path) -> list[Path]:
    """Every data file in a folder and those inside it; hidden ones are those that Spark and Dask write beside data."""
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not _is_hidden(name))
        found += [] if real in seen else [Path(place, name) for name in files]
        seen.add(real)
    return sorted(file for file in found if _is_data(file))


def _is_data(file: Path) -> bool:
    return not _is_hidden(file.name) and not file.name.lower().endswith(_BESIDE)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_")) and "=" not in name


def _kind(file: Path) -> str | None:
    """What a file is by its name; by its first bytes where the name has no ending, as some engines write them."""
    name = file.name.lower()
    ending = next((ending for ending in sorted(KINDS, key=len, reverse=True) if name.endswith(ending)), None)
    if ending is not None:
        return KINDS[ending]
    if file.suffix:
        return None
    try:
        with file.open("rb") as opened:
            start = opened.read(6)
    except OSError:
        return None
    return next((kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), None)


def _pattern(found: dict[Path, Path], kinds: dict[Path, str | None]) -> str:
    """A pattern for the files of the most frequent kind."""
    known = [kind for kind in kinds.values() if kind is not None] or [""]
    usual = max(sorted(set(known)), key=known.count)
    file = next((file for file, kind in kinds.items() if kind == usual), next(iter(found)))
    base = found[file]
    return str(base / ("*" if file.parent == base else "**/*")) + "".join(
        file.suffixes[-2 if _is_packed(file) else -1 :]
    )


def _is_packed(file: Path) -> bool:
    return file.suffix.lower() in _PACKED[1:]


def _folders(file: Path, base: Path) -> dict[str, str | None]:
    """What folders named `user=3` say of a file, from its base on."""
    pairs = [part.partition("=") for part in file.relative_to(base).parts[:-1] if "=" in part]
    return {
        unquote(name): None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
        for name, _, value in pairs
        if name
    }
