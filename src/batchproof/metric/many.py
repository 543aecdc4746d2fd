"""Many metrics of the same batches: each is exact by itself, and what their folds share is folded once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from batchproof.derive import Plan
from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, copied
from batchproof.ground.place import Statement, statement_of
from batchproof.ground.tensors import version
from batchproof.metric import distributed
from batchproof.metric.answers import Answers
from batchproof.metric.per_sample import SampleValues, per_sample
from batchproof.metric.shared_fold import SharedFold, group_alike, share
from batchproof.metric.stream import Stream

if TYPE_CHECKING:
    from batchproof.metric.exact import Exact

Commit = Callable[[], None]


class Plans(dict[str, Plan]):
    """The plan of each function, by its name; printed, it is a report."""

    def __init__(self, plans: Mapping[str, Plan], together: str) -> None:
        super().__init__(plans)
        self._together = together

    def __str__(self) -> str:
        parts = [self._together] if self._together else []
        return "\n".join([*parts, *(f"{name}: {plan}" for name, plan in self.items())])


class ExactMany:
    """A metric of several functions of the same batches, made by `exact` of a dict, a list or a tuple of them.

    >>> import torch, batchproof
    >>> def accuracy(guess, label):
    ...     return (guess == label).float().mean()
    >>> def errors(guess, label):
    ...     return (guess != label).sum()
    >>> metric = batchproof.exact({"accuracy": accuracy, "errors": errors})
    >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 2]))
    >>> metric.update(torch.tensor([2]), torch.tensor([2]))
    >>> metric.compute()
    {'accuracy': tensor(0.6667), 'errors': tensor(1)}

    Each function has a state, a plan and refusals of its own, as in an `Exact` of its own. Functions of a list or tuple
    are named by their number, from "0" on.
    """

    def __init__(self, members: Mapping[str, Exact], kind: type = dict) -> None:
        if not members:
            raise BatchproofError("exact of no functions: give it one at least")
        self._members = dict(members)
        self._kind = kind
        self._shared: SharedFold | None = None
        self._apart = dict(self._members)  # those that fold by themselves
        self._tried: list[Plan] = []  # of which a shared fold was last made
        self._waiting: list[Stream] = []  # those that have no plan yet

    # ------------------------------------------------------------------ a batch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Each function's value on this batch, with its autograd graph, and the batch folded in.

        >>> import torch, batchproof
        >>> metric = batchproof.exact([torch.mean, torch.std])
        >>> metric(torch.tensor([1.0, 3.0]))
        [tensor(2.), tensor(1.4142)]

        Raises:
            BatchproofError: as in a call of `Exact`, with the function's name; or a function writes into its
                arguments, and those after it would see that. The state stays as it was.
        """
        shared = None if kwargs else self._shared
        found = None if shared is None else shared.ready_to_call(args)
        known: dict[str, Any] = {}
        if shared is None or found is None:
            self._release()
            commits = self._prepared(self._members, args, kwargs, {}, known)
            values = self._values(args, kwargs, known, None)
        else:
            folded, answers = found
            commits = self._prepared(self._apart, args, kwargs, {}, known)
            commits.append(partial(shared.commit, folded, args, drawn=True))
            values = shared.called(args, folded[2], lambda: self._values(args, kwargs, known, answers))
        self._commit(commits, apart=found is None)
        return self._shown(values)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Fold a batch in, for all functions; where one of them refuses it, for none.

        Raises:
            BatchproofError: as in `Exact`, with the function's name; the state stays as it was.
            NotConstantSize: ``state="constant"``, and a function has no exact state of constant size.
        """
        shared = None if kwargs else self._shared
        folded = None if shared is None else shared.ready(args)
        if shared is None or folded is None:
            self._release()
            self._commit(self._prepared(self._members, args, kwargs, {}, None), apart=True)
        elif self._apart:
            commits = self._prepared(self._apart, args, kwargs, {}, None)
            self._commit([*commits, partial(shared.commit, folded, args)], apart=False)
        else:
            shared.commit(folded, args)

    def _prepared(
        self,
        members: Mapping[str, Exact],
        args: Any,
        kwargs: Any,
        copies: dict[int, Any],
        known: dict[str, Any] | None,
    ) -> list[Commit]:
        """Fold a batch for some functions without changing their states; what comes back puts it in.

        Args:
            members: these functions.
            args: of the batch.
            kwargs: of the batch.
            copies: of its tensors, each of which is copied once for all functions.
            known: takes the values that come about on the way; None where none is wanted, and so none is called.
        """
        commits = []
        for name, member in members.items():
            with _named(name):
                if member.over == "samples":
                    commits.append(_each_sample(member, args, kwargs, known, name))
                else:
                    commits.append(_folding(member, args, kwargs, copies, called=known is not None))
        return commits

    def _commit(self, commits: list[Commit], *, apart: bool) -> None:
        """Put a batch into the states; ``apart``: no functions folded it together, as they may from now on."""
        for commit in commits:
            commit()
        if not apart and any(stream.plan is not None for stream in self._waiting):
            self._release()
            apart = True
        if apart:
            self._join()

    def _values(self, args: Any, kwargs: Any, known: dict[str, Any], answers: Answers | None) -> dict[str, Any]:
        """Each function's own value.

        Raises:
            BatchproofError: a function writes into its arguments, and another one is to be called on them.
        """
        tensors = [leaf for leaf in (*args, *kwargs.values()) if isinstance(leaf, torch.Tensor)]
        writes = [version(tensor) for tensor in tensors]
        writer = None
        values = {}
        for name, member in self._members.items():
            if name in known:
                values[name] = known[name]
                continue
            if writer is not None:
                raise BatchproofError(
                    f"{writer} writes into its arguments, and {name} would be called on what it wrote: let it write "
                    "into a copy, or give it an exact of its own"
                )
            values[name] = member.fn(*args, **kwargs) if answers is None else answers.call(member.fn, *args)
            if [version(tensor) for tensor in tensors] != writes:
                writer = name
        return values

    def _shown(self, values: dict[str, Any]) -> Any:
        """Values by name as the functions were given: in a dict, a list or a tuple."""
        return values if self._kind is dict else self._kind(values.values())

    # ------------------------------------------------------------------ what is shared

    def _join(self) -> None:
        """Fold those together from now on that may be, and have seen the same batches."""
        streams = {name: member._stream for name, member in self._members.items() if member.over == "dataset"}
        names = group_alike(streams)
        plans = [plan for name in names if (plan := streams[name].plan) is not None]
        if [*map(id, plans)] != [*map(id, self._tried)]:
            self._tried = plans
            self._shared = share([streams[name] for name in names])
        elif self._shared is not None and not self._shared.rejoin():
            self._shared = None
        together = names if self._shared is not None else ()
        self._apart = {name: member for name, member in self._members.items() if name not in together}
        self._waiting = [stream for stream in streams.values() if stream.plan is None and stream.state != "rows"]

    def _release(self) -> None:
        """Let each function fold the next batch by itself."""
        if self._shared is not None:
            self._shared.release()

    def _given(self) -> dict[str, Exact]:
        """Each function's metric, with all batches in it.

        Raises:
            BatchproofError: not all of them have the same batches.
        """
        if self._shared is not None:
            self._shared.give()
        if len({member.n_samples for member in self._members.values()}) > 1:
            raise BatchproofError(
                "the functions have seen different batches: an update was interrupted, or their states were; call "
                "reset, or load a state"
            )
        return self._members

    def _drafts(self) -> dict[str, Exact]:
        """Metrics to make a change in, which `_become` then puts in force at once."""
        return {name: _draft(member) for name, member in self._given().items()}

    def _become(self, members: Mapping[str, Exact]) -> None:
        other = ExactMany(members, self._kind)
        self.__dict__.update(other.__dict__)

    # ------------------------------------------------------------------ values

    def compute(self) -> Any:
        """Each function's exact value over all that was folded in, as `Exact.compute` gives it.

        Returns:
            A dict by the functions' names, or a list or tuple in their order.

        Raises:
            BatchproofError: as in `Exact`, with the name of the function that is refused. ``metric[name].compute()``
                still gives the values of the others.
        """
        return self._each(lambda member: member.compute())

    def standard_error(self) -> Any:
        """The standard error of each function's value, as `Exact.standard_error` gives it.

        Raises:
            BatchproofError: as in `Exact`, with the function's name.
        """
        return self._each(lambda member: member.standard_error())

    def _each(self, read: Callable[[Exact], Any]) -> Any:
        values = {}
        for name, member in self._given().items():
            with _named(name):
                values[name] = read(member)
        return self._shown(values)

    def __getitem__(self, name: str | int) -> Exact:
        """One function's metric as it is now; what is done to it does not change this one.

        >>> import torch, batchproof
        >>> metric = batchproof.exact({"mean": torch.mean, "median": torch.median})
        >>> metric.update(torch.arange(100.0))
        >>> metric["mean"].compute(), metric["median"].plan.is_constant_size
        (tensor(49.5000), False)

        Raises:
            KeyError: there is no function of that name.
        """
        return _apart(self._given()[str(name)])

    def __iter__(self) -> Iterator[str]:
        """The names of the functions."""
        return iter(self._members)

    def __len__(self) -> int:
        """How many functions there are."""
        return len(self._members)

    @property
    def plan(self) -> dict[str, Plan]:
        """The plan of each function, by its name; printed, it also says what is folded together.

        Raises:
            BatchproofError: no batch has come yet.
        """
        plans = {}
        for name, member in self._given().items():
            with _named(name):
                plans[name] = member.plan
        return Plans(plans, "" if self._shared is None else str(self._shared))

    @property
    def n_samples(self) -> int:
        """Samples folded in so far."""
        return next(iter(self._given().values())).n_samples

    # ------------------------------------------------------------------ states

    def reset(self) -> None:
        """Forget all samples, and the plans with them."""
        members = {name: _draft(member) for name, member in self._members.items()}
        for member in members.values():
            member.reset()
        self._become(members)

    def merge_state(self, others: ExactMany | Sequence[ExactMany]) -> ExactMany:
        """Take in what other metrics of the same functions hold; they stay as they are.

        Returns:
            This metric.

        Raises:
            BatchproofError: one of them has other functions, or holds another state; ours stays as it was.
        """
        all_of_them: Sequence[Any] = others if isinstance(others, (list, tuple)) else [others]
        for other in all_of_them:
            if not isinstance(other, ExactMany):
                raise BatchproofError("merge_state takes metrics of several functions")
            self._check_names(other)
        theirs = [other._given() for other in all_of_them]
        return self._changed(lambda name, member: member.merge_state([given[name] for given in theirs]))

    def sync(self, group: Any = None) -> ExactMany:
        """Merge over the processes of ``torch.distributed``, as `Exact.sync` does, function by function.

        Args:
            group: the process group; the default one if None.

        Returns:
            This metric.

        Raises:
            BatchproofError: as in `Exact`, or the ranks have other functions. It is raised on every rank, and the
                states stay as they were.
        """
        for names in distributed.told(list(self), group):
            self._check_names(names)
        return self._changed(lambda name, member: member.sync(group))

    def state_dict(self) -> dict[str, Any]:
        """The state of each function by its name, as `Exact.state_dict` gives it."""
        return {name: member.state_dict() for name, member in self._given().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put saved states in place of these.

        Raises:
            BatchproofError: they belong to other functions; the states stay as they were.
        """
        self._check_names(state)
        self._changed(lambda name, member: member.load_state_dict(state[name]))

    def to(self, device: Any) -> ExactMany:
        """Move the states to a device, and functions that are modules.

        Args:
            device: a ``torch.device``, or its name.

        Returns:
            This metric.
        """
        return self._changed(lambda name, member: member.to(device))

    def _changed(self, change: Callable[[str, Exact], Any]) -> ExactMany:
        """Make a change in each function's metric, or in none."""
        drafts = self._drafts()
        for name, member in drafts.items():
            with _named(name):
                change(name, member)
        self._become(drafts)
        return self

    def _check_names(self, others: Iterable[str]) -> None:
        theirs = list(others)
        if set(theirs) != set(self):
            raise BatchproofError(
                f"mismatched states: these are of the functions {', '.join(map(str, theirs))}; ours are "
                f"{', '.join(self)}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"members": self._given(), "kind": self._kind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> ExactMany:
        return ExactMany({name: copy.deepcopy(member, memo) for name, member in self._given().items()}, self._kind)

    def __repr__(self) -> str:
        return f"<ExactMany {', '.join(self)}: {self.n_samples:,} samples>"


def _folding(member: Exact, args: Any, kwargs: Any, copies: dict[int, Any], called: bool) -> Commit:
    """Fold a batch without changing the state; ``called``: the function will be called on it, and may write into it."""
    stream = member._stream
    ready = stream.ready(args) if not kwargs else None
    if ready is not None:
        drawn = called and stream.draws(ready[2])
        return partial(stream.commit, ready, [_own(arg, copies) for arg in args] if drawn else args)
    call = member._read(args, kwargs)
    if not called and stream.slots is not None:
        return stream.prepared(call)
    return stream.prepared(Batch(call.layout, [_own(leaf, copies) for leaf in call.leaves], call.n), kept=True)


def _each_sample(member: Exact, args: Any, kwargs: Any, known: dict[str, Any] | None, name: str) -> Commit:
    """Call a function on each sample for the mean over them, without changing the state; what comes back puts it in."""
    with torch.set_grad_enabled(known is not None and torch.is_grad_enabled()):
        call = member._read(args, kwargs)
        sample = member._known_sample(call)
        values = per_sample(member.fn, call)
        if known is not None:
            known[name] = values.mean()
    commit = member._stream.prepared(values.detached())

    def put() -> None:
        member._values = SampleValues([], values.tree, values.types, sample)
        commit()

    return put


def _own(leaf: Any, copies: dict[int, Any]) -> Any:
    """A copy of what is in a batch, one for all functions."""
    if id(leaf) not in copies:
        copies[id(leaf)] = leaf, copied(leaf)
    return copies[id(leaf)][1]


def _draft(member: Exact) -> Exact:
    """A metric whose state may be put in the place of a metric's own; it holds the same one until then."""
    other = object.__new__(type(member))
    other.__dict__.update(member.__dict__)
    other._stream = member._stream.draft()
    return other


def _apart(member: Exact) -> Exact:
    """A copy of a metric that goes its own way; the function is the same."""
    other = _draft(member)
    stream = other._stream
    stream.rows, stream.reservoir = list(stream.rows), stream.reservoir.copied()
    if stream.slots is not None:
        stream.slots = stream.slots.clone()
    return other


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put a function's name in front of what is refused of it."""
    try:
        yield
    except BatchproofError as error:
        said = statement_of(error)
        error.args = (Statement(f"{name}: {said.claim}", said.rest),)
        raise
