"""Words that every room needs: an error on one line, counted things, a list in a sentence, bytes."""

from __future__ import annotations

from collections.abc import Sequence


def first_line(message: object) -> str:
    """The first line of an error's message, or of any text; empty where there is none."""
    return (str(message).strip().splitlines() or [""])[0]


def error_line(error: BaseException) -> str:
    """``ValueError: too small``; the type alone where the error says nothing."""
    message = first_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def on_one_line(name: str) -> str:
    """A name of somebody else's, as a file's: what would move the cursor, or begin a line, is written out.

    >>> len(on_one_line("new" + chr(10) + "::error::a.py").splitlines())
    1
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def counted(count: int, word: str) -> str:
    """``1 number``, ``2,000 numbers``, ``2 batches``."""
    return f"{count:,} {word}{'' if count == 1 else 'es' if word.endswith('ch') else 's'}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def sentence(words: str) -> str:
    """With a capital at the start and a full stop at the end."""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}"


def size_of(nbytes: int) -> str:
    """``16 bytes``, ``3.2 kB``."""
    if nbytes < 1000:
        return f"{nbytes} bytes"
    return f"{nbytes / 1e3:.1f} kB" if nbytes < 1e6 else f"{nbytes / 1e6:.1f} MB"
