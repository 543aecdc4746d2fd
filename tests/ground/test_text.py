"""Words that every room needs."""

from __future__ import annotations

from batchproof.ground.text import counted, error_line, first_line, listed, size_of


def test_an_error_on_one_line() -> None:
    assert first_line(ValueError("too small\n  at line 3")) == "too small"
    assert error_line(ValueError("\ntoo small\n")) == "ValueError: too small"
    assert error_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_how_many() -> None:
    assert [counted(n, "batch") for n in (0, 1, 2000)] == ["0 batches", "1 batch", "2,000 batches"]
    assert counted(2, "number") == "2 numbers"
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert [size_of(n) for n in (16, 3200, 4_500_000)] == ["16 bytes", "3.2 kB", "4.5 MB"]
