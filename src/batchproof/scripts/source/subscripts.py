"""Parts of values: a length, an entry by its key, what a bare name says."""

from __future__ import annotations

import ast

from batchproof.scripts.source import name_tables, stats
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.name_tables import last_of
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.values import (
    Averaged,
    Binding,
    Const,
    Count,
    Dataset,
    Fixed,
    Items,
    Length,
    Library,
    LoaderValue,
    Mapping,
    Meter,
    Of,
    Pool,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
    join,
)


def named(name: str, node: ast.AST, of_batch: bool = False, parameter: bool = False) -> Value:
    """What a name says by itself."""
    if name_tables.reads_as_batch_size(name) and not of_batch:
        return Count(node, Of.CONFIGURED)
    if name_tables.reads_as_loader(name):
        return LoaderValue(node, Loader(node if isinstance(node, ast.expr) else None))
    if name in {"dataset", "train_dataset", "test_dataset", "val_dataset", "valid_dataset"}:
        return Dataset(node)
    return Unknown(node, name, of_batch, parameter)


def as_loader(value: Value, name: str) -> Value:
    """What nothing is known of but that its name is a loader's."""
    if isinstance(value, Unknown) and not value.of_batch and value.length is None and name_tables.reads_as_loader(name):
        return LoaderValue(value.node, Loader(value.node if isinstance(value.node, ast.expr) else None))
    return value


def length_of(run: Reading, value: Value, node: ast.expr, of: ast.expr | None = None) -> Value:
    """``len(value)``, ``value.size(0)``."""
    found = _length_of(run, value, node, of)
    if isinstance(found, (Count, Unknown)) and of is not None and isinstance(node, ast.Call):
        found.length = Length(ast.unparse(of), value)
    return found


def _length_of(run: Reading, value: Value, node: ast.expr, of: ast.expr | None) -> Value:
    loop = run.batch_loop()
    text = ast.unparse(of) if isinstance(of, (ast.Name, ast.Attribute, ast.Subscript)) else ""
    if text and any(other.text == text for other in run.batch_loops.values()):
        return Count(node, Of.BATCHES)
    if isinstance(value, Rows):
        if value.whole and isinstance(of, ast.Name) and of.id in run.frame.keyed and isinstance(node, ast.Call):
            return Count(node, Of.KEYS, loop)
        return Count(node, Of.ELEMENTS if value.selected else Of.SAMPLES, loop)
    imported = isinstance(value, Library) and name_tables.reads_as_loader(last_of(value.path))
    if isinstance(value, LoaderValue) or imported:
        return Count(node, Of.BATCHES)
    if isinstance(value, Dataset):
        return Count(node, Of.DATASET)
    if isinstance(value, Items):
        if value.entries:
            return Total(node, tuple(value.entries), True)
        if value.items and is_of_batch(value):
            return Count(node, Of.SAMPLES, loop) if value.of_samples else Const(node, len(value.items))
        return Fixed(node) if value.items else Count(node, Of.BATCHES)
    if isinstance(value, Total):
        return Total(node, value.entries, True)
    if isinstance(value, Pool):
        return Count(node, Of.DATASET)
    if isinstance(value, Stat):
        return Count(node, Of.SAMPLES, loop)
    if isinstance(value, Unknown):
        if value.of_batch:
            return Count(node, Of.SAMPLES, loop)
        if name_tables.reads_as_loader(value.name):
            return Count(node, Of.BATCHES)
        if value.name and name_tables.reads_as_dataset(value.name):
            return Count(node, Of.DATASET)
        if value.parameter and loop is not None:
            return Count(node, Of.SAMPLES, loop)
        return Unknown(node, f"len_{value.name}" if value.name else "")
    return Unknown(node)


def key_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "*"


def read_key(run: Reading, base: Mapping, key: str, node: ast.AST) -> Value:
    if key in base.entries:
        return base.entries[key].value
    if "*" in base.entries:
        return base.entries["*"].value
    if key == "*" and base.entries:
        found = [b.value for b in base.entries.values()]
        value = found[0]
        for other in found[1:]:
            value = join(value, other)
        return value
    if base.makes:
        made = _made(run, base, node)
        base.entries[key] = Binding(made, base.born, base.node)
        return made
    return Unknown(node, key)


def _made(run: Reading, base: Mapping, node: ast.AST) -> Value:
    if base.template is not None:
        made = run.evaluate(run, base.template)
        if isinstance(made, (Mapping, Items)):
            made.born = base.born
        if isinstance(made, Mapping):
            for entry in made.entries.values():
                entry.born = base.born
        return made
    if base.makes == "list":
        return Items(node, born=base.born, start=base.node)
    if base.makes == "meter":
        return Meter(node, "defaultdict", born=base.born)
    return Const(node, 0)


def note_name(value: Value, name: str) -> None:
    """A total that is read under a name is reported under it."""
    if isinstance(value, Averaged) and name != "*":
        for entry in value.entries:
            entry.reported.setdefault(name)


def hugging_face_loss(run: Reading, node: ast.expr) -> Stat:
    """``outputs.loss``: of a language model the mean over its tokens, of a classifier the mean over samples."""
    loop = run.batch_loop()
    if loop is not None and loop.equal:  # blocks that are drawn at random have no padding
        return stats.stat(run, node, Quantity.MEAN)
    if any(word.endswith(_TOKEN_MODELS) for word in run.index.words):
        return stats.stat(run, node, Quantity.RATIO, "it is a mean over the tokens that are not padding")
    return stats.stat(run, node, Quantity.MEAN)


_TOKEN_MODELS = (
    "ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM", "ForMaskedLM", "ForTokenClassification",
    "ForPreTraining", "ModelWithLMHead", "EncoderDecoderModel",
)  # fmt: skip
