"""``python -m tests.mutants``: which mutants the tests kill, and which survive."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .mutants import FILES, MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
#: Seconds after which a test file that has not ended counts as failed: a mutant may loop for ever.
PATIENCE = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="words of the names of mutants to try; all of them without")
    parser.add_argument("--quick", action="store_true", help="stop at each mutant's first files")
    parser.add_argument("--check", action="store_true", help="only look whether every mutant can be made")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or any(word in m.name for word in options.names)]
    wrong = [m for m in chosen if (ROOT / "src/batchproof" / m.file).read_text().count(m.old) != 1]
    for mutant in wrong:
        print(f"not made: {mutant.name} ({mutant.file} does not have its text once)")
    if options.check:
        return 1 if wrong else 0
    survived = [m for m in chosen if m not in wrong and not _killed(m, options.quick)]
    print(f"{len(chosen) - len(wrong)} mutants, {len(chosen) - len(wrong) - len(survived)} killed")
    for mutant in survived:
        print(f"survived: {mutant.name} ({mutant.file})")
    return 1 if survived or wrong else 0


def _killed(mutant: Mutant, quick: bool) -> bool:
    """Whether a test file notices the mutant."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / "src/batchproof" / mutant.file
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        files = mutant.first if quick else dict.fromkeys([*mutant.first, *FILES])
        by = next((name for name in files if _fails(copy, name)), None)
    said = f"killed by {by}" if by else "SURVIVED"
    print(f"{mutant.name}: {said} ({time.monotonic() - start:.0f} s)", flush=True)
    return by is not None


def _fails(copy: Path, name: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{name}.py"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return True
    if ran.returncode in (2, 4, 5):  # pytest itself could not go on, or found no tests
        imports = b"batchproof" in ran.stdout
        if not imports:
            raise RuntimeError(ran.stdout.decode() + ran.stderr.decode())
    return ran.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
