"""What a model holds, to see whether it is left as it was."""

from __future__ import annotations

from torch import nn


def held_by(model: nn.Module) -> dict[str, object]:
    """Every attribute of every module and of its settings, and what the dicts among them hold, by name."""
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            found[f"{name}.{key}"] = value
            inner = value if isinstance(value, dict) else vars(value) if key == "config" else {}
            found.update({f"{name}.{key}[{number}]": one for number, one in inner.items()})
    return found


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    """The names that came, went, or stand for another thing."""
    plain = (bool, int, float, str)
    return {
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or (before[name] != after[name] if isinstance(before[name], plain) else before[name] is not after[name])
    }
