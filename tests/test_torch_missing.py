"""Without torch the package imports, and what needs torch says how to install it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""


def run_without_torch(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


def test_package_imports():
    done = run_without_torch("import batchproof; print(batchproof.__version__, batchproof.BatchproofError.__name__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "BatchproofError"


@pytest.mark.parametrize("access", ["import batchproof; batchproof.exact", "from batchproof import exact"])
def test_exact_says_how_to_install_torch(access):
    done = run_without_torch(
        "from batchproof.errors import TorchMissing\n"
        "try:\n"
        f"    {access}\n"
        "except TorchMissing as error:\n"
        "    assert isinstance(error, ImportError) and error.name == 'torch'\n"
        "    print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "batchproof.exact needs torch" in done.stdout
    assert "pip install torch" in done.stdout


def test_command_says_how_to_install_torch():
    done = run_without_torch(
        "sys.argv = ['batchproof', 'explain', 'examples/question.py:rmse']\n"
        "from batchproof.cli import main\n"
        "raise SystemExit(main())"
    )
    assert done.returncode == 2
    assert "pip install torch" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
