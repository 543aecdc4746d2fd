"""One type for a column that files hold in several: whole numbers widen, floating ones too, text stays text."""

from __future__ import annotations

from typing import Any

from batchproof.ground.datatable import bare_type, holds_text, is_list


def common_type(one: Any, other: Any) -> Any:
    """The type of pyarrow's that holds the values of two without loss; None where there is none.

    >>> import pyarrow
    >>> common_type(pyarrow.int32(), pyarrow.int64()), common_type(pyarrow.float32(), pyarrow.float64())
    (DataType(int64), DataType(double))
    >>> common_type(pyarrow.string(), pyarrow.int64()) is None
    True
    """
    import pyarrow
    from pyarrow import types

    if one == other:
        return one
    if types.is_null(one) or types.is_null(other):
        return other if types.is_null(one) else one
    one, other = bare_type(one), bare_type(other)
    if one == other:
        return one
    if holds_text(one) and holds_text(other):
        return pyarrow.large_string()
    if is_list(one) and is_list(other):
        inner = common_type(one.value_type, other.value_type)
        return None if inner is None else pyarrow.large_list(inner)
    if _is_number(one) and _is_number(other):
        return _common_number(one, other)
    try:  # dates, times and bytes, of which groups are made
        return pyarrow.unify_schemas([_field(one), _field(other)], promote_options="permissive").field(0).type
    except (pyarrow.ArrowException, ValueError):
        return None


def _field(kind: Any) -> Any:
    import pyarrow

    return pyarrow.schema([("column", kind)])


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _common_number(one: Any, other: Any) -> Any:
    import pyarrow
    from pyarrow import types

    if types.is_decimal(one) or types.is_decimal(other):
        return pyarrow.float64()
    return pyarrow.from_numpy_dtype(common_dtype(_numpy_name(one), _numpy_name(other)))


def _numpy_name(kind: Any) -> str:
    # pyarrow's own answer needs pandas in older releases
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind))


def common_dtype(one: Any, other: Any) -> Any:
    """The type of numpy's that holds the numbers of two; that of unsigned and signed ones is int64, as in torch.

    >>> str(common_dtype("int32", "float32")), str(common_dtype("int64", "uint64"))
    ('float64', 'int64')
    """
    import numpy

    found = numpy.promote_types(one, other)
    whole = numpy.dtype(one).kind in "iu" and numpy.dtype(other).kind in "iu"
    return numpy.dtype("int64") if whole and found.kind == "f" else found
