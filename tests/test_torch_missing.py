"""Without torch, or with one that is too old, the package imports, and what needs torch says what to do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import batchproof
from batchproof.errors import TorchMissing
from batchproof.ground.torch_versions import OLDEST, release, require

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = """
import sys

class NoTorch:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "torch" else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(NoTorch, sys.meta_path)
"""
VERBS = [
    "batchproof.exact",
    "from batchproof import exact",
    "batchproof.explain",
    "batchproof.simulate",
    "batchproof.accumulate",
    "batchproof.check_gradients",
    "batchproof.check_partitions",
    "batchproof.gradient_noise",
    "batchproof.testing.assert_independent_of_batch_size(None)",
    "import batchproof.trainers.loop",
]
COMMANDS = [
    ("explain", "examples/question.py:rmse"),
    ("simulate", "examples/question.py:rmse"),
    ("noise",),
    ("run", "examples/question.py"),
    ("compare", "examples/question.py", "--batch-size", "1,2"),
]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=120,
    )


def messages(setup: str, **environment: str) -> list[str]:
    """What each of `VERBS` says, in one process."""
    code = f"""
import batchproof
from batchproof.errors import TorchMissing

for statement in {VERBS!r}:
    try:
        exec(statement)
    except TorchMissing as error:
        assert isinstance(error, ImportError) and error.name == "torch"
        print(repr(str(error)))
"""
    done = python(setup + code, **environment)
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


def command(*arguments: str) -> str:
    return f"from batchproof.cli import main; raise SystemExit(main({arguments!r}))"


# ------------------------------------------------------------------ none


def test_package_imports() -> None:
    done = python(WITHOUT_TORCH + "import batchproof, batchproof.testing; print(batchproof.__version__)")
    assert done.stdout.strip() == batchproof.__version__, done.stderr


def test_verbs_say_how_to_install_torch() -> None:
    found = messages(WITHOUT_TORCH)
    assert len(found) == len(VERBS)
    assert all("needs torch 2.6 or later, and this Python has none" in message for message in found)
    assert all("pip install torch" in message for message in found)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_command_says_how_to_install_torch(arguments: tuple[str, ...]) -> None:
    done = python(WITHOUT_TORCH + command(*arguments))
    assert done.returncode == 2
    assert "pip install torch" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ one that is too old


@pytest.fixture
def old_torch(tmp_path: Path) -> str:
    """A folder for PYTHONPATH with the release 2.2.2 of a torch that tells when it is imported."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    (tmp_path / "torch-2.2.2.dist-info").mkdir()
    (tmp_path / "torch-2.2.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.2.2\n")
    return os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])


def test_verbs_say_which_torch_they_need(old_torch: str) -> None:
    found = messages("", PYTHONPATH=old_torch)
    assert len(found) == len(VERBS)
    end = f" needs torch 2.6 or later, and this is 2.2.2 ({sys.executable})"
    assert all(message.endswith(end) for message in found)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_command_says_which_torch_it_needs(arguments: tuple[str, ...], old_torch: str) -> None:
    done = python(command(*arguments), PYTHONPATH=old_torch)
    assert done.returncode == 2
    assert done.stderr.endswith(f" needs torch 2.6 or later, and this is 2.2.2 ({sys.executable})\n")
    assert done.stderr.startswith("error: batchproof")


# ------------------------------------------------------------------ versions


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.6.0", (2, 6)),
        ("2.13.0+cpu", (2, 13)),
        ("2.6.0a0+df5bbc09d1.nv24.12", (2, 6)),
        ("2.10.0.dev20251101", (2, 10)),
    ],
)
def test_release(version: str, expected: tuple[int, int]) -> None:
    assert release(version) == expected


@pytest.mark.parametrize(("version", "is_enough"), [("2.5.1+cu124", False), ("2.6.0", True), ("2.10.0", True)])
def test_require_compares_numbers(version: str, is_enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchproof.ground.torch_versions.installed", lambda: version)
    if is_enough:
        require("this")
    else:
        with pytest.raises(TorchMissing, match=r"this needs torch 2\.6 or later, and this is 2\.5\.1\+cu124"):
            require("this")


def test_the_extra_asks_for_the_oldest() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"torch>={OLDEST[0]}.{OLDEST[1]}"' in text
