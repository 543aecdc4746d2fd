"""One part of the benchmark: a table of figures, the aims beside what was reached, and a closing line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass
class Aim:
    what: str
    limit: float
    reached: float

    @property
    def met(self) -> bool:
        return self.reached <= self.limit


@dataclass
class Section:
    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def closing(self) -> str:
        parts = [f"{aim.what} {shown(aim.reached)} (aim ≤ {shown(aim.limit)}, {_verdict(aim)})" for aim in self.aims]
        return f"{self.name}: {' · '.join(parts)}"

    def show(self, console: Console) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*(shown(cell) for cell in row))
        console.print(self.title, style="bold", highlight=False)
        console.print(table)
        for note in self.notes:
            console.print(note, style="dim", highlight=False)
        console.print()

    def to_dict(self) -> dict[str, Any]:
        aims = [{**asdict(aim), "met": aim.met} for aim in self.aims]
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "title": self.title, "rows": rows, "aims": aims, "notes": self.notes}


def _verdict(aim: Aim) -> str:
    return "met" if aim.met else "missed"


def shown(cell: Any) -> str:
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    if cell != 0 and (abs(cell) < 1e-2 or abs(cell) >= 1e4):
        return f"{cell:.0e}"
    return f"{cell:.2f}" if abs(cell) < 10 else f"{cell:.1f}"
