"""``batchproof rule``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from batchproof.cli import options

if TYPE_CHECKING:
    from batchproof.scripts.lint.rule import Rule


@options.examples_last
@click.command("rule", short_help="Explain a lint rule")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def command(code: str | None, as_json: bool) -> int:
    """Show what lint's rule CODE is about: why it is bad, how large it tends to be, and how to repair it.

    Without a CODE all rules are listed.

    Examples:
      batchproof rule
      batchproof rule BP101
    """
    from batchproof.scripts.lint.forms import data, rule_page
    from batchproof.scripts.lint.rules import RULES

    width = shutil.get_terminal_size((100, 24)).columns
    if code is None:
        click.echo(data.rules(RULES) if as_json else "\n".join(rule_page.listing(RULES, width)))
        return 0
    rule = _named(code)
    click.echo(data.rules([rule]) if as_json else "\n".join(rule_page.page(rule, width)))
    return 0


def _named(code: str) -> Rule:
    """The rule of a code, or of a name.

    Raises:
        BatchproofError: there is none.
    """
    from batchproof.errors import BatchproofError
    from batchproof.scripts.lint.config import meant
    from batchproof.scripts.lint.rules import BY_CODE

    by_name = {rule.name: rule for rule in BY_CODE.values()}
    found = BY_CODE.get(code.upper()) or by_name.get(code.lower())
    if found is None:
        near = meant(code.upper(), list(BY_CODE)) or meant(code.lower(), list(by_name))
        raise BatchproofError(f"there is no rule {code}{near or '; batchproof rule lists them'}")
    return found
