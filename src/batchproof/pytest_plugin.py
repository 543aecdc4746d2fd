"""What pytest finds once batchproof is installed: a fixture, a marker, and their settings.  It never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from batchproof.errors import BatchproofError
from batchproof.testing import assert_independent_of_batch_size as assertion

#: What the marker takes: keywords of the assertion that fit a whole module or class of tests.
MARKED = ("batch_sizes", "seed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of the configuration file."""
    parser.addini("batchproof_batch_sizes", "batch sizes that assert_independent_of_batch_size tries", "args")
    parser.addini("batchproof_seed", "seed of the shuffle in assert_independent_of_batch_size", default="0")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that --strict-markers takes it."""
    config.addinivalue_line(
        "markers", "batchproof(batch_sizes=None, seed=0): how assert_independent_of_batch_size tries its functions"
    )


@pytest.fixture
def assert_independent_of_batch_size(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`batchproof.testing.assert_independent_of_batch_size`, with the batch sizes and seed of marker or settings.

    >>> def test_mse(assert_independent_of_batch_size):
    ...     assert_independent_of_batch_size(mse, torch.randn(100), torch.randn(100))

    The marker goes before pytest's configuration, what the call itself gives before both.
    """
    how = _settings(request.config)
    for mark in reversed(list(request.node.iter_markers("batchproof"))):  # the closest one last
        unknown = [*map(repr, mark.args), *(set(mark.kwargs) - set(MARKED))]
        if unknown:
            raise BatchproofError(f"@pytest.mark.batchproof takes {' and '.join(MARKED)}, not {', '.join(unknown)}")
        how |= mark.kwargs
    return partial(assertion, **how)


def _settings(config: pytest.Config) -> dict[str, Any]:
    """The keywords that pytest's configuration gives."""
    sizes, seed = config.getini("batchproof_batch_sizes"), config.getini("batchproof_seed")
    try:
        return {"batch_sizes": [int(size) for size in sizes] or None, "seed": int(seed)}
    except ValueError as error:
        raise BatchproofError(f"batchproof_batch_sizes and batchproof_seed are whole numbers: {error}") from None
