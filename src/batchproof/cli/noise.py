"""``batchproof noise``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.output import Output, progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.gradients.noise import GradientNoise


@options.examples_last
@click.command("noise", short_help="Which batch size is large enough for training?")
@click.argument("target", required=False)
@options.batch_sizes("The sizes to try.  [default: 1, 2, 4, ... up to the data, or to 4,096]")
@click.option("--batches", type=int, default=200, show_default=True, help="Batches of each size; fewer of large ones.")
@options.mark
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same numbers.")
@options.output
def command(target: str | None, output: Output, **choices: Any) -> int:
    """Measure how noisy a batch's gradient is, and up to which batch size a larger one is worth it.

    TARGET is a function without parameters, file.py:name or package.module:name, that returns (model, loss_fn, data):
    a torch module, a loss that is the mean over the batch, and the samples as tensors (inputs, target), a Dataset or a
    DataLoader.  Without a TARGET it is a small linear regression.

    Examples:
      batchproof noise                                 (a small linear regression)
      batchproof noise train.py:make --mark 32
      batchproof noise train.py:make --batch-size 8,64,512 --html noise.html --png noise.png

    where train.py has, for example
      def make():
          return model, torch.nn.functional.cross_entropy, DataLoader(dataset)

    Exit status: 0 measured, 2 could not tell, 130 interrupted (what was done by then is shown).
    """
    return output.give(lambda: _measured(target, choices))


def _measured(target: str | None, choices: dict[str, Any]) -> GradientNoise:
    from batchproof import gradient_noise
    from batchproof.gradients.noise.example import EXPECTED, regression
    from batchproof.ground.target import place_of, resolve

    make = resolve(target) if target is not None else regression
    parts = _parts(make, target or "the example")
    try:
        with progress(with_time=True) as shown:
            found = gradient_noise(*parts, progress=shown, **choices)
    except BatchproofError:
        raise
    except Exception as error:
        reason = _what_does_not_fit(*parts)
        if reason is None:
            raise
        raise BatchproofError(reason) from error
    if target is None:
        return replace(found, notes=(*found.notes, EXPECTED))
    return replace(found, place=found.place or place_of(make))


def _what_does_not_fit(model: Any, loss_fn: Any, data: Any) -> str | None:
    """Which of the two raises for the first samples, and for what shapes; None where neither does."""
    import torch

    from batchproof.gradients.noise.samples import on_device, samples_of
    from batchproof.ground.target import title_of
    from batchproof.ground.text import error_line

    device = next(model.parameters()).device
    batch = on_device(samples_of(data).pick([0, 1]), device)
    if not (isinstance(batch, (tuple, list)) and len(batch) > 1 and all(isinstance(x, torch.Tensor) for x in batch)):
        return None
    *inputs, target = batch
    with torch.no_grad():
        try:
            outputs = model(*inputs)
        except Exception as error:  # noqa: BLE001 - the model is the user's
            taken = " and ".join(map(_shape, inputs))
            return f"{type(model).__name__} does not take inputs of shape {taken}: {error_line(error)}"
        try:
            loss_fn(outputs, target)
        except Exception as error:  # noqa: BLE001 - and so is the loss
            taken = f"outputs of shape {_shape(outputs)} with a target of shape {_shape(target)}"
            return f"{title_of(loss_fn)} does not take {taken}: {error_line(error)}"
    return None


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return type(value).__name__
    return f"({', '.join(['batch', *map(str, shape[1:])])}{',' if len(shape) == 1 else ''})"


def _parts(make: Callable[[], Any] | Any, target: str) -> tuple[Any, Any, Any]:
    """The model, the loss and the data.

    Raises:
        BatchproofError: the target does not give these three.
    """
    from batchproof.ground.target import required

    wanted = "(model, loss_fn, data)"
    if callable(make) and required(make):
        names = ", ".join(parameter.name for parameter in required(make))
        raise BatchproofError(f"{target} takes {names}: name a function without parameters that returns {wanted}")
    parts = make() if callable(make) else make
    if not (isinstance(parts, (tuple, list)) and len(parts) == 3):
        raise BatchproofError(f"{target} is or returns {type(parts).__name__}, and not the three of {wanted}")
    return parts[0], parts[1], parts[2]
