"""``python -m bench [update call collection nosync accuracy derive ... lint run] [--quick] [--json]``."""

from __future__ import annotations

import json
import warnings
from importlib import import_module

import click
import torch
from rich.console import Console

SECTIONS = (
    "update",
    "call",
    "collection",
    "nosync",
    "accuracy",
    "derive",
    "saved",
    "scoring",
    "simulate",
    "accumulate",
    "lint",
    "run",
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(SECTIONS))
@click.option("--quick", is_flag=True, help="Fewer rounds and samples.")
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON.")
def main(names: tuple[str, ...], quick: bool, as_json: bool) -> None:
    """Measure batchproof beside other libraries; the status is 0 whatever the figures."""
    warnings.simplefilter("ignore")  # the other libraries' own, as they are imported and first used
    torch.set_num_threads(1)
    console = Console(quiet=as_json, width=None if Console().is_terminal else 120)
    sections = []
    for name in names or SECTIONS:
        section = import_module(f"bench.{name}").run(quick)
        section.show(console)
        sections.append(section)
    for section in sections:
        console.print(section.closing(), highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps([section.to_dict() for section in sections], indent=2))


if __name__ == "__main__":
    main()
