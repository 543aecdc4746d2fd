"""Short scripts for the tests of `batchproof.scripts.source`, and reading them."""

from __future__ import annotations

import ast

from batchproof.scripts.source import find
from batchproof.scripts.source.site import AverageSite, Script


def loop(body: str, after: str = "return total / len(loader)", start: str = "total = 0") -> str:
    """A function that evaluates a model in a loop over batches with that body."""
    return f"""
def evaluate(loader, model, args, weights):
    {start}
    for x, y in loader:
        {body}
    {after}
"""


def read(script: str) -> Script:
    return find(ast.parse(script))


def only(script: str) -> AverageSite:
    """The only place of a script."""
    sites = read(script).sites
    assert len(sites) == 1, [ast.unparse(site.add) for site in sites]
    return sites[0]
