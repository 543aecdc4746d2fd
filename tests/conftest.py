"""One thread, a fixed seed for each test, the Hypothesis profiles, and how much of the tests is run."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from progress import Progress

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, default=1, metavar="N", help="run every Nth test, drawn by its name")
    parser.addoption(
        "--minutes",
        type=float,
        metavar="M",
        help="begin no test after so long; long ones in an order drawn anew each day, or by BATCHPROOF_DAY",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None) in {None, 0}:
        import torch

        torch.set_num_threads(1)
    elif config.get_verbosity() == 0:
        config.pluginmanager.register(Progress(config))
    if config.getoption("--minutes") is not None:
        config.pluginmanager.register(Budget(config.getoption("--minutes")))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        thin_out(item)
    every = config.getoption("--sample")
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % every]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % every == 0]


def thin_out(item: pytest.Item) -> None:
    """Mark a combination as long, but for every Nth on the diagonals: each value of each parameter stays."""
    one_in = item.get_closest_marker("one_in")
    if one_in is not None and sum(places(item)) % one_in.args[0]:
        item.add_marker("long")


def places(item: pytest.Function) -> Iterator[int]:
    """Where the values of its parameters stand in their tables."""
    for table in item.iter_markers("parametrize"):
        names, rows = table.args
        several = not isinstance(names, str) or "," in names
        name = names.split(",")[0].strip() if isinstance(names, str) else names[0]
        values = [row[0] if several else row for row in rows]
        yield next(place for place, value in enumerate(values) if value is item.callspec.params[name])


class Budget:
    """Some of the tests, others each day: as many as fit into the time."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.end = 0.0
        # In the environment, where the processes that run the tests find the same.
        self.day = os.environ.setdefault("BATCHPROOF_DAY", time.strftime("%Y-%m-%d"))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def drawn(item: pytest.Item) -> int:
            is_long = (
                item.get_closest_marker("long") is not None
            )  # others stay in order: a file's share what they set up
            return zlib.crc32(f"{self.day} {item.nodeid}".encode()) if is_long else 0

        items.sort(key=drawn)

    def pytest_runtest_setup(self) -> None:
        self.end = self.end or time.monotonic() + 60 * self.minutes
        if time.monotonic() > self.end:
            pytest.skip("the time of --minutes is over")


@pytest.fixture(autouse=True)
def seed() -> None:
    import torch

    torch.manual_seed(0)
