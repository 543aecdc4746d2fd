"""Calls of backward: which one is running, of which terms its loss is the sum, and what it brings of one alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

#: Of more terms none is looked at by itself.
MOST_TERMS = 6
#: Operations that hand a gradient on to one place, scaled: the sum may stand below them.
SCALING = ("DivBackward0", "MulBackward0", "NegBackward0", "ToCopyBackward0", "CloneBackward0", "ViewBackward0")
ADDING = ("AddBackward0", "SubBackward0")

Term = tuple[Any, int]  # the node that adds it, and which of its inputs it is


class BackwardCalls:
    """While it watches, backward passes go back through one term of the loss only, or through all where it is None."""

    def __init__(self, only: int | None) -> None:
        self.only = only
        self.number, self.depth = 0, 0
        self.names: set[tuple[str, ...]] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at each loss that is gone back from."""
        backward = torch.autograd.backward

        def looked(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            try:
                return by_term(tensors, *args, **kwargs) if self.depth == 1 else backward(tensors, *args, **kwargs)
            finally:
                self.depth -= 1

        def by_term(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            self.number += 1
            losses = [tensors] if isinstance(tensors, Tensor) else list(tensors)
            if len(losses) != 1:
                self.names.add(())
                return backward(tensors, *args, **kwargs)
            terms = terms_of(losses[0].grad_fn)
            self.names.add(tuple(map(name_of, terms)))
            handles = self._without_others(terms) if self.only is not None and len(terms) > 1 else []
            try:
                return backward(tensors, *args, **kwargs)
            finally:
                for handle in handles:
                    handle.remove()

        torch.autograd.backward = looked
        try:
            yield
        finally:
            torch.autograd.backward = backward

    @property
    def running(self) -> int:
        """A number for the pass that is running: one that checkpointing makes within another is a part of it."""
        return -self.number if self.depth else torch._C._current_graph_task_id()

    def _without_others(self, terms: Sequence[Term]) -> list[Any]:
        nodes: dict[Any, set[int]] = {}
        for number, (node, slot) in enumerate(terms):
            slots = nodes.setdefault(node, set())
            if number != self.only:
                slots.add(slot)
        return [node.register_hook(_zeroing(slots)) for node, slots in nodes.items()]

    def taken(self) -> tuple[str, ...]:
        """The terms of the losses since the last time, by name; none where losses differ in that."""
        names, self.names = self.names, set()
        found = names.pop() if len(names) == 1 else ()
        return found if len(found) <= MOST_TERMS else ()


def _zeroing(slots: set[int]) -> Any:
    def hook(grad_inputs: Sequence[Tensor | None], grad_outputs: Sequence[Tensor | None]) -> tuple[Any, ...]:
        return tuple(
            torch.zeros_like(grad) if grad is not None and slot in slots else grad
            for slot, grad in enumerate(grad_inputs)
        )

    return hook


def terms_of(node: Any) -> list[Term]:
    """The terms of the sum that a loss is, from left to right; none where it is no sum.

    A factor of the whole loss is looked through; a sum that has a factor of its own within another is one term of it.
    """
    while node is not None and type(node).__name__ in SCALING:
        below = _below(node)
        if len(below) != 1:
            return []
        node = below[0][1]
    return _terms(node)


def _terms(node: Any) -> list[Term]:
    if type(node).__name__ not in ADDING:
        return []
    below = _below(node)
    if len(below) == 1:  # what is added has no gradient
        return _terms(below[0][1])
    found: list[Term] = []
    for slot, parent in below:
        found += _terms(parent) or [(node, slot)]
    return found


def _below(node: Any) -> list[tuple[int, Any]]:
    return [(slot, parent) for slot, (parent, _) in enumerate(node.next_functions) if parent is not None]


def name_of(term: Term) -> str:
    """The operation that ends a term, as its user may know it: ``nll_loss``, not what it is divided by."""
    node = term[0].next_functions[term[1]][0]
    while type(node).__name__ in SCALING and len(_below(node)) == 1:
        node = _below(node)[0][1]
    words = re.findall("[A-Z]+[a-z0-9]*", type(node).__name__.partition("Backward")[0])
    return "_".join(words).lower() or type(node).__name__
