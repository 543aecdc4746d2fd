"""The command line, run in a folder of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchproof.cli import main


@contextmanager
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str], columns: int) -> Iterator[Path]:
    """Work in a folder with these files, on a terminal so wide; what was imported from there is forgotten after."""
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which `run` puts the script in place of
    monkeypatch.setenv("COLUMNS", str(columns))
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def command(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    capsys.readouterr()
    status = main(list(args))
    out, err = capsys.readouterr()
    return status, out, err


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command that fails says, in its one line."""
    status, out, err = command(capsys, *args)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err.removeprefix("error: ").rstrip("\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on stderr is a terminal, which keeps what it shows."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal
