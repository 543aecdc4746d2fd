"""What a batch holds that a loss may divide by: labels, answers in a text, unmasked positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.ground.trees import is_column

IGNORED = -100
#: Of question answering: where in the text the answer starts and ends.
_ANSWERS = ("start_positions", "end_positions")
_LABELS = ("labels", "label", "label_ids", "targets", "target", "y")


def contents(batch: Any) -> dict[str, float]:
    """What may be counted in a batch: labels that are not ignored, answers in the text, unmasked positions."""
    if is_listed(batch):
        return _of_samples(batch)
    labels, given = _labels(batch), batch if isinstance(batch, Mapping) else {}
    found: dict[str, float] = {}
    if labels is not None and not labels.is_floating_point() and labels.dim() > 0:
        found["labels"] = float((labels != IGNORED).sum())
        if labels.dim() > 1:
            found["shifted labels"] = float((labels[..., 1:] != IGNORED).sum())
    length = _length(given)
    for name in _ANSWERS:
        if length is not None and isinstance(given.get(name), Tensor):
            # a position after the end of the text says that there is no answer, and has no loss
            found[name.replace("_", " ")] = float((given[name] < length).sum())
    mask = given.get("attention_mask")
    if isinstance(mask, Tensor):
        found["unmasked positions"] = float((mask != 0).sum())
    return found


def _length(batch: Mapping[str, Any]) -> int | None:
    """Of the longest text in a batch, the padding included."""
    texts = (batch.get(name) for name in ("input_ids", "inputs_embeds"))
    return next((text.shape[1] for text in texts if isinstance(text, Tensor) and text.dim() > 1), None)


def _labels(batch: Any) -> Tensor | None:
    if isinstance(batch, Mapping):
        found = next((batch[name] for name in _LABELS if name in batch), None)
    else:
        found = batch[-1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    return found if isinstance(found, torch.Tensor) else None


def is_listed(samples: Any) -> bool:
    """Whether it is a list with an item for each sample, and not a list of tensors that each hold all of them."""
    return isinstance(samples, list) and not any(isinstance(item, Tensor) for item in samples)


def _of_samples(samples: Sequence[Any]) -> dict[str, float]:
    """What is counted in samples that no batch was made of: that of each, as a batch of its own, added up."""
    each = [contents(_alone(sample)) for sample in samples]
    return {
        name: sum(one.get(name, 0.0) for one in each) for name in dict.fromkeys(name for one in each for name in one)
    }


def _alone(sample: Any) -> Any:
    """A sample as a batch of one; numbers in lists as tensors."""
    parts = dict(sample) if isinstance(sample, Mapping) else sample

    def of(leaf: Any) -> Any:
        numbers = is_column(leaf) and all(isinstance(item, (int, float)) for item in leaf)
        tensor = torch.tensor(leaf) if numbers else leaf
        return tensor[None] if isinstance(tensor, Tensor) else leaf

    return pytree.tree_map(of, parts, is_leaf=is_column) if isinstance(parts, (dict, tuple)) else None
