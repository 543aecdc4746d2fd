"""What a model says of itself: whether it is causal, how far its layers see, how many positions it takes."""

from __future__ import annotations

from typing import Any


def is_causal(target: Any) -> bool:
    """Whether a position sees only those before it: transformers' language models say so by their names."""
    if getattr(getattr(target, "config", None), "is_encoder_decoder", False):
        return False
    names = [type(target).__name__, *(getattr(getattr(target, "config", None), "architectures", None) or ())]
    is_decoder = getattr(getattr(target, "config", None), "is_decoder", False)
    causal = [getattr(module, "is_causal", False) for module in getattr(target, "modules", list)()]
    return bool(is_decoder) or any(map(bool, causal)) or any("Causal" in name or "LMHead" in name for name in names)


def window_of(target: Any) -> int | None:
    """How far some layers of a model see: transformers' configurations name the type of each."""
    config = getattr(target, "config", None)
    window = getattr(config, "sliding_window", None)
    has_both = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return window if has_both and isinstance(window, int) else None


def most_positions(target: Any) -> int | None:
    """Positions that a model has embeddings for: transformers' own word for it, in its many spellings."""
    config = getattr(target, "config", None)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "block_size"):
        most = getattr(config, name, None)
        if isinstance(most, int) and most > 0:
            return most
    return None
