"""The colours, by what they stand for.  They differ in lightness too, and each has a dash or a marker beside it."""

from __future__ import annotations

#: On white.
LIGHT = {
    "paper": "#ffffff", "text": "#1b1f24", "muted": "#59626c", "line": "#b8c0c8", "soft": "#eef1f4",
    "bad": "#b42318", "good": "#11703f", "unsure": "#8a5a00", "mine": "#a84300",
    "measured": "#1a5fb4", "exact": "#11703f", "weighted": "#626a74", "theory": "#59626c", "published": "#7c2fa3",
}  # fmt: skip
#: On black.
DARK = {
    "paper": "#12161b", "text": "#e6e9ec", "muted": "#a3adb8", "line": "#4a535d", "soft": "#1e242b",
    "bad": "#ff8a80", "good": "#5fd08f", "unsure": "#e3b341", "mine": "#ffa657",
    "measured": "#7ab4ff", "exact": "#5fd08f", "weighted": "#a3adb8", "theory": "#a3adb8", "published": "#d9a0f5",
}  # fmt: skip
#: On whatever colour a notebook has: nobody tells.
EITHER = {
    "paper": "transparent", "text": "inherit", "muted": "#808890", "line": "rgba(128, 128, 128, .35)",
    "soft": "rgba(128, 128, 128, .14)",
    "bad": "#d1495b", "good": "#2e9e5b", "unsure": "#b7791f", "mine": "#c2640c",
    "measured": "#3b82d6", "exact": "#2e9e5b", "weighted": "#808890", "theory": "#808890", "published": "#a855c7",
}  # fmt: skip


def variables(palette: dict[str, str]) -> str:
    """A palette as CSS variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())
