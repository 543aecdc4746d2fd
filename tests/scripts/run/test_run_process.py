"""`batchproof run` as a process: what a script prints, how it ends and what it trains are what they are without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = """\
import argparse, atexit, io, os, pickle, sys
import torch
from torch.utils.data import DataLoader, Dataset
from engine import train_one_epoch

class Data(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(100, 3, generator=generator)
        self.y = self.x.sum(1, keepdim=True)
    def __len__(self):
        return 100
    def __getitem__(self, index):
        return self.x[index], self.y[index]

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
    def forward(self, x):
        return self.inner(x)

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--context")
    parser.add_argument("--end", default="")
    options = parser.parse_args()
    torch.manual_seed(0)
    loader = DataLoader(
        Data(), 16, shuffle=True, num_workers=options.workers, multiprocessing_context=options.context
    )
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        print(epoch, train_one_epoch(model, loader, optimizer))
    total = 0.0
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            total += torch.nn.functional.l1_loss(model(x), y).item()
    print("val", total / len(loader), torch.rand(1).item())
    print([parameter.double().sum().item() for parameter in model.parameters()])
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    print(type(torch.load(saved, weights_only=False)).__module__, pickle.loads(pickle.dumps(Data)).__qualname__)
    print(sys.argv, __name__, __file__, __spec__, __package__, sys.path[0], sorted(globals()))
    atexit.register(print, "bye")
    if options.end == "status":
        sys.exit(3)
    if options.end == "message":
        sys.exit("a message")
    if options.end == "error":
        raise ValueError("broken")
    if options.end == "interrupt":
        raise KeyboardInterrupt

if __name__ == "__main__":
    main()
"""
ENGINE = """\
import torch

def rmse(pred, real):
    return torch.sqrt(((pred - real) ** 2).mean())

def train_one_epoch(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = rmse(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)
"""
PARALLEL = """\
import os, sys, time
import torch, torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

def train(rank, world):
    torch.manual_seed(0)
    x = torch.randn(101, 3)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    loader = DataLoader(data, 16, sampler=DistributedSampler(data, world, rank))
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = 0.0
    for a, b in loader:
        optimizer.zero_grad()
        loss = torch.sqrt(torch.nn.functional.mse_loss(model(a), b))
        loss.backward()
        optimizer.step()
        total += loss.item()
    average = total / len(loader)
    if rank == 0:
        print(average, flush=True)

def worker(rank, world, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    train(rank, world)
    dist.destroy_process_group()

if __name__ == "__main__":
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        train(dist.get_rank(), dist.get_world_size())
        dist.destroy_process_group()
        time.sleep(float(os.environ["RANK"]))  # the first ends before the other
    else:
        mp.spawn(worker, args=(2, os.path.abspath("meeting")), nprocs=2)
"""
SLEEPY = """\
import sys, time
print("ready", flush=True)
try:
    time.sleep(60)
finally:
    print("cleaned", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"train.py": TRAIN, "engine.py": ENGINE, "parallel.py": PARALLEL, "sleepy.py": SLEEPY}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def start(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONPATH": str(Path("src").absolute())}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


RUN = ("-m", "batchproof", "run")


@pytest.mark.parametrize(
    ("end", "loading"),
    [
        ("message", ("--workers", "2", "--context", "fork")),
        ("error", ()),
        *(pytest.param(end, (), marks=pytest.mark.long) for end in ("", "status", "interrupt")),
        pytest.param("", ("--workers", "2", "--context", "spawn"), marks=pytest.mark.long),
    ],
)
def test_a_script_ends_as_it_does_without_us(folder: Path, end: str, loading: tuple[str, ...]) -> None:
    options = ("--end", end, *loading)
    plain = start(folder, "train.py", *options)
    measured = start(folder, *RUN, "train.py", *options)
    assert measured.stdout == plain.stdout
    assert measured.returncode == plain.returncode
    assert measured.stderr.startswith(plain.stderr)
    report = measured.stderr.removeprefix(plain.stderr)
    assert report.startswith("\n✗ 2 of 2 numbers are off; worst: total, 2.5% too high")
    assert "engine.py:13" in report
    assert ("what was measured by then" in report) is (end in ("error", "interrupt"))
    run = json.loads((folder / ".batchproof" / "run.json").read_text())
    assert [row["place"]["line"] for row in run["measured"]] == [13, 41]
    assert all(epoch["exact"] is not None for row in run["measured"] for epoch in row["epochs"])
    assert [path.name for path in (folder / ".batchproof").iterdir()] == ["run.json"]  # nothing of a loader's workers


def test_a_module_of_a_package(folder: Path) -> None:
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "engine.py").write_text(ENGINE)
    (package / "__main__.py").write_text(TRAIN.replace("from engine", "from .engine").replace(", __spec__", ""))
    plain = start(folder, "-m", "package")
    measured = start(folder, *RUN, "--output", "here.json", "-m", "package")
    assert (measured.stdout, measured.returncode) == (plain.stdout, plain.returncode)
    assert "package/engine.py:13" in measured.stderr
    assert json.loads((folder / "here.json").read_text())["measured"]
    assert not (folder / ".batchproof").exists()


def test_processes_that_the_script_spawns_hand_in_what_they_measured(folder: Path) -> None:
    measured = start(folder, *RUN, "parallel.py")
    run = json.loads((folder / ".batchproof" / "run.json").read_text())
    assert measured.returncode == 0
    assert [row["name"] for row in run["measured"]] == ["average"]
    epoch = run["measured"][0]["epochs"][0]
    assert epoch["printed"] == float(measured.stdout)
    assert epoch["samples"] == 51
    assert epoch["exact"] is not None
    assert "2 processes" in " ".join(run["notes"])
    assert [path.name for path in (folder / ".batchproof").iterdir()] == ["run.json"]


def test_processes_of_torchrun_each_write_a_file(folder: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    measured = start(folder, *launcher, *RUN, "parallel.py")
    assert measured.returncode == 0
    assert measured.stderr.count("batchproof report") == 1
    first, second = (json.loads((folder / ".batchproof" / name).read_text()) for name in ("run.json", "run.rank1.json"))
    assert [run["measured"][0]["epochs"][0]["rank"] for run in (first, second)] == [0, 1]
    assert first["world"] == 2
    assert [path.name for path in (folder / ".batchproof").iterdir() if path.suffix != ".json"] == []
    own, other = (run["measured"][0]["epochs"][0] for run in (first, second))
    ranks = own["ranks"]
    assert (ranks["ranks"], ranks["samples"], ranks["copies"]) == (2, 102, 1)
    assert ranks["own"] == own["printed"] == float(measured.stdout)
    assert ranks["mean"] == pytest.approx((own["averaged"] + other["averaged"]) / 2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_reaches_the_script(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path("src").absolute())}
    # a shell that starts things in the background has them ignore SIGINT: Python then raises nothing
    begin = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = begin + "sys.argv[1:1] = ['run']; runpy.run_module('batchproof', run_name='__main__', alter_sys=True)"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code, "sleepy.py"], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert out == "cleaned\n"
    assert process.returncode == -signal.SIGINT
    assert err.startswith("Traceback")
    assert "execute.py" not in err


IMPORTING = "import sys, os\nsys.path.insert(0, os.getcwd())\nimport failing\n"
FAILING = (
    "import torch\ndef boom():\n    for batch in [1]:\n        loss = torch.nn.functional.mse_loss(batch)\nboom()\n"
)
LOADING = "from torch.utils.data import DataLoader\nDataLoader([1, 2], batch_size=0)\n"


@pytest.mark.parametrize("text", [IMPORTING, LOADING])
def test_a_traceback_has_no_frames_of_ours(folder: Path, text: str) -> None:
    (folder / "failing.py").write_text(FAILING)
    (folder / "main.py").write_text(text)
    plain = start(folder, "main.py")
    measured = start(folder, *RUN, "main.py")
    assert (plain.returncode, measured.returncode) == (1, 1)
    assert "Traceback" in plain.stderr
    assert measured.stderr.startswith(plain.stderr)


def test_a_saved_run_is_shown_without_torch(folder: Path) -> None:
    run = '{"script": "t.py", "measured": [], "seen": [], "reported": null, "control": {"updates": [], "repairs": []}, '
    (folder / "run.json").write_text(run + '"updates": [], "notes": []}')
    report = "import sys; from batchproof.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = start(folder, "-c", report, "report", "run.json", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert "nothing measured" in done.stdout
    assert (folder / "page.html").is_file()


def test_torch_is_not_imported_before_the_script_does(folder: Path) -> None:
    (folder / "plain.py").write_text("import sys\nprint('torch' in sys.modules, 'numpy' in sys.modules)\n")
    done = start(folder, *RUN, "plain.py")
    assert done.stdout == "False False\n"
    assert "no place was found where it averages over batches" in done.stderr
    assert "looked for: a total, a list or a meter" in " ".join(done.stderr.split())


def test_the_table_is_printed_before_it_is_written(folder: Path) -> None:
    """A disk that is full at the end of a training loses nothing."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    measured = start(folder, *RUN, "--output", str(full), "train.py")
    assert "numbers are off; worst: total" in measured.stderr
    assert measured.stderr.splitlines()[-1].startswith(f"batchproof: cannot write {full}: No space left")


def test_what_the_page_on_run_shows_is_what_is_printed() -> None:
    root = Path(__file__).parents[3]
    shown = (
        (root / "docs" / "run.md").read_text(encoding="utf-8").partition("$ batchproof run examples/question.py\n")[2]
    )
    done = start(root, *RUN, "--output", os.devnull, "examples/question.py")
    printed = done.stdout + done.stderr.partition("\n  batchproof report")[0]
    table = shown.partition("```")[0].partition("\n  batchproof report")[0]  # nothing was kept here to be shown again
    assert [line.rstrip() for line in printed.strip().splitlines()] == [
        line.rstrip() for line in table.strip().splitlines()
    ]
