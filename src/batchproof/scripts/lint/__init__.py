"""What a script's source says about batch sizes: rules over the places that ``source`` finds.  Never imports torch."""

from batchproof.scripts.lint.finding import Linted, LintFinding
from batchproof.scripts.lint.one_file import fix_commands, lint_path

__all__ = ["LintFinding", "Linted", "fix_commands", "lint_path"]
