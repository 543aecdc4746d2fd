"""``python docs/schemas.py``: writes a JSON Schema for what each verb gives with ``--json`` into docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from batchproof.explanation import Explanation
from batchproof.gradients.check import GradientCheck
from batchproof.gradients.noise import GradientNoise
from batchproof.gradients.partitions import PartitionCheck
from batchproof.report.schema import json_schema
from batchproof.scoring import Scores
from batchproof.scripts.check.result import ScriptCheck
from batchproof.scripts.compare import Comparison
from batchproof.scripts.lint import baseline
from batchproof.scripts.lint.forms import data
from batchproof.scripts.run import ScriptRun
from batchproof.simulation import Simulation

FOLDER = Path(__file__).parent / "schemas"
RESULTS = (
    Explanation, Scores, Simulation, GradientNoise, GradientCheck, PartitionCheck, ScriptRun, Comparison, ScriptCheck,
)  # fmt: skip


class BaselineData(TypedDict):
    schema: str
    findings: list[baseline.KnownFinding]


KINDS: dict[str, Any] = {result.SCHEMA: result for result in RESULTS} | {
    data.SCHEMA: data.LintData,
    data.RULES_SCHEMA: data.RulesData,
    baseline.SCHEMA: BaselineData,
}


def schemas() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{name.split('/')[1]}.json": json.dumps(json_schema(kind, name), indent=1, ensure_ascii=False) + "\n"
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
