"""The processes of a comparison: runs that fail, hang, are interrupted, are kept, or differ for no reason."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.commands import command, inside
from tests.comparisons import shared_slots
from tests.planted_runs import DATA, FROZEN, MSE, evaluated, trained

from batchproof.scripts.compare import scheduler
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import Comparison

SCORED = DATA + FROZEN + evaluated(MSE)
#: The size of the batches, in the script itself.
SIZE = "len(next(iter(DataLoader(data, batch_size=32)))[0])"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    with inside(tmp_path, monkeypatch, {}, 100) as path:
        yield path


def compared(script: str, *sizes: int, **changes: Any) -> Comparison:
    Path("train.py").write_text(script)
    choices = {"seeds": 1, "jobs": 1, "cache": False, "controls": False, **changes}
    return compare("train.py", sizes or (20, 50), **choices)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise torch.OutOfMemoryError('CUDA out of memory.\\nTried to allocate 8 GiB')", "CUDA out of memory."),
        ("raise SystemExit(3)", "exit status 3"),
        ("raise SystemExit('no such weights')", "exit status 1"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL (out of memory?)"),
        ("import os; print('gone'); os._exit(7)", "exit status 7"),
    ],
)
def test_a_size_at_which_the_script_fails(what: str, said: str) -> None:
    found = compared(DATA + FROZEN + f"if {SIZE} == 50:\n    {what}\n" + evaluated(MSE), 20, 50, 100)
    assert [row.size for row in found.numbers[0].rows] == [20, 100]
    [failure] = found.failures
    assert failure.size == 50
    assert said in failure.error


def test_a_run_that_takes_too_long() -> None:
    script = DATA + FROZEN + f"import time\nif {SIZE} == 50:\n    time.sleep(60)\n" + evaluated(MSE)
    found = compared(script, 20, 50, 100, timeout=5.0)
    assert [row.size for row in found.numbers[0].rows] == [20, 100]
    assert [failure.error for failure in found.failures] == ["not done after 5 seconds (--timeout)"]


def test_what_was_run_before_is_not_run_again(folder: Path) -> None:
    first = compared(SCORED, cache=True)
    again = compared(SCORED, cache=True)
    assert (first.cached, again.cached) == (0, first.runs)
    assert again.numbers == first.numbers
    assert compared(SCORED, cache=False).cached == 0
    more = compared(SCORED, 20, 50, 100, cache=True)
    assert (more.cached, more.runs) == (3, 4)
    assert compared(SCORED + "# changed\n", cache=True).cached == 0


def test_data_that_changed_is_read_again(folder: Path) -> None:
    script = SCORED.replace("+ 1\n", "+ float(open('shift.txt').read())\n")
    (folder / "shift.txt").write_text("1")
    first = compared(script, cache=True)
    (folder / "shift.txt").write_text("2.0")
    second = compared(script, cache=True)
    assert second.cached == 0
    assert second.numbers[0].rows[0].reported != first.numbers[0].rows[0].reported


def test_several_at_once_give_the_same() -> None:
    assert compared(trained(MSE, shuffle=True), jobs=3).numbers == compared(trained(MSE, shuffle=True)).numbers


def test_a_script_that_is_not_deterministic() -> None:
    found = compared(SCORED.replace("fill_(0.5)", "fill_(__import__('time').time() % 1)"))
    assert any(note.startswith("not deterministic: two runs at batch size 20") for note in found.notes)
    assert not any("not deterministic" in note for note in compared(SCORED).notes)


def test_loader_processes_and_arguments_and_modules(folder: Path) -> None:
    (folder / "package").mkdir()
    script = SCORED.replace("drop_last=False", "num_workers=1").replace("batch_size=32", "batch_size=int(sys.argv[2])")
    (folder / "package" / "__main__.py").write_text("import sys\nassert sys.argv[1] == '--bs'\n" + script)
    found = compare(
        "package", (20, 50), ("--bs", "{batch_size}"), as_module=True, seeds=1, jobs=1, cache=False, controls=False
    )
    assert found.target == "-m package --bs {batch_size}"
    assert [row.batches for row in found.numbers[0].rows] == [10, 4]


def test_what_the_script_prints_does_not_mix_with_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text(SCORED)
    options = ("--batch-size", "20,50", "--seeds", "1", "--no-controls", "--jobs", "1", "--json")
    status, out, _ = command(capfd, "compare", "train.py", *options)
    data = json.loads(out)
    assert status == data["exit_status"] == 0
    assert data["numbers"][0]["rows"][1]["parts"][-1]["cause"] == "rest"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_keeps_what_was_done(folder: Path) -> None:
    slow = folder.parent / "slow"  # a run keeps to itself what it writes into its folder
    sleeps = f"import time\nif {SIZE} == 100:\n    open({str(slow)!r}, 'w').close()\n    time.sleep(120)\n"
    (folder / "train.py").write_text(DATA + FROZEN + sleeps + evaluated(MSE))
    options = ["--batch-size", "20,50,100", "--seeds", "1", "--no-controls", "--jobs", "1"]
    # a shell that starts things in the background has them ignore SIGINT: Python then raises nothing
    command = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from batchproof.cli import main; sys.exit(main())"
    )
    work = subprocess.Popen(
        [sys.executable, "-c", command, "compare", "train.py", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as from a terminal, but for this process alone
    )
    wait_for(slow.exists)
    os.kill(work.pid, signal.SIGINT)
    out, err = work.communicate(timeout=60)
    assert work.returncode == 130, err
    assert "test_loss as printed" in out
    assert "interrupted: these are the runs that were done by then" in out
    assert "Traceback" not in err
    assert len(list((folder / ".batchproof" / "cache").glob("*.json"))) == 2


ENDLESS = (
    DATA
    + """
import os, subprocess, time
apart = subprocess.Popen(["sleep", "600"], start_new_session=True)
batches = iter(DataLoader(data, batch_size=32, num_workers=1, persistent_workers=True))
next(batches)
with open("%s", "w") as file:
    file.write(f"{os.getpid()} {apart.pid}")
time.sleep(600)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="no list of processes")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "a closed terminal"])
def test_nothing_goes_on_or_is_left_after(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's name has no room for more
    monkeypatch.setenv("TMPDIR", str(temporary))
    running = folder.parent / f"running-{how.rpartition(' ')[2]}"
    (folder / "train.py").write_text(ENDLESS % running)
    before = sorted(path.name for path in folder.iterdir())
    arguments = [sys.executable, "-m", "batchproof", "compare", "train.py", "--batch-size", "20,50", "--no-cache"]
    process, terminal = os.forkpty()
    if process == 0:
        os.execv(sys.executable, arguments)
    os.set_blocking(terminal, False)
    numbers = wait_for(lambda: shown(terminal) and running.is_file() and running.read_text().split())
    assert all(map(is_running, numbers))
    if how == "a closed terminal":
        os.close(terminal)
        terminal = -1
    else:
        os.kill(process, getattr(signal, how))
    wait_for(lambda: shown(terminal) and not any(map(is_running, numbers)) and not list(temporary.glob("batchproof-*")))
    os.waitpid(process, 0)
    shutil.rmtree(temporary)  # torch keeps a folder of its own there
    assert sorted(path.name for path in folder.iterdir()) == before


def shown(terminal: int) -> bool:
    """What a terminal has no room for halts a program."""
    with contextlib.suppress(OSError):
        os.read(terminal, 1 << 16)
    return True


def wait_for(happens: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (found := happens()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def is_running(number: str) -> bool:
    """A process that is no zombie."""
    stat = Path("/proc", number, "stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
