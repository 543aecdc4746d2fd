"""A line now and then in place of a dot for each test: how much is done, and about how long the rest takes."""

from __future__ import annotations

import time

import pytest

#: Seconds from one line to the next.
EVERY = 10


class Progress:
    """For a run in several processes, which otherwise shows nothing until each of them has read all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.start = self.shown = 0.0
        self.done = self.failed = 0

    def pytest_report_header(self) -> str:
        return "Each process first reads all tests, half a minute or less; a test that fails is named at once."

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if hasattr(report, "wasxfail") or (report.when != "call" and not report.skipped):
            return None
        return report.outcome, "", report.outcome.upper()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
            self.write(f"FAILED {report.nodeid}", red=True)

    def pytest_runtest_logfinish(self) -> None:
        now = time.monotonic()
        self.start = self.start or now
        self.done += 1
        if now < self.shown + EVERY:
            return
        self.shown = now
        total = self.session.testscollected
        spent = now - self.start
        left = f", about {clock(spent / self.done * (total - self.done))} left" if spent > EVERY else ""
        failed = f", {self.failed} failed" if self.failed else ""
        self.write(f"{100 * self.done // total:3}%  {self.done} of {total} tests in {clock(spent)}{left}{failed}")

    def write(self, line: str, **markup: bool) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line, **markup)
            reporter.flush()


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
