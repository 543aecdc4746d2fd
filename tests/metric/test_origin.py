"""Whose samples are whose: what each rank gives, so that every sample is there once."""

from __future__ import annotations

import pytest

import batchproof as bp
from batchproof.metric.origin import Origin, Past, renamed, shares


def test_ranks_that_have_only_their_own_give_it() -> None:
    ranks = [Origin(owned={"a": 10}, clock={"a": 10}), Origin(owned={"b": 7}, clock={"b": 7})]
    assert shares(ranks) == ["own", "own"]


def test_ranks_that_were_synced_before_give_their_own_again() -> None:
    """Each holds all samples, and only its own are new to the others."""
    both = {"a": 10, "b": 7}
    assert shares([Origin(owned={"a": 10}, clock=both), Origin(owned={"b": 7}, clock=both)]) == ["own", "own"]


def test_one_checkpoint_loaded_by_all_is_given_by_one() -> None:
    loaded = {"saved": 100}
    ranks = [Origin(clock=loaded, log=log, start=0, stop=stop) for log, stop in (("a", 5), ("b", 6), ("c", 0))]
    assert shares(ranks) == ["held", "since", "none"]


def test_samples_that_cannot_be_told_apart_are_refused() -> None:
    ranks = [Origin(clock={"saved": 100, "a": 5}), Origin(clock={"saved": 100, "b": 6})]
    with pytest.raises(bp.BatchproofError, match="cannot be told apart"):
        shares(ranks)


def test_a_reset_rank_does_not_miss_what_others_still_hold_of_it() -> None:
    both = {"a": 10, "b": 7}
    ranks = [Origin(clock={}, forgotten=frozenset("a"), log="c", stop=3), Origin(owned={"b": 7}, clock=both)]
    assert shares(ranks) == ["own", "own"]


def test_samples_that_two_merged_states_share_count_twice() -> None:
    """As they would in a list that is joined with itself."""
    past = Past([], [], {"a": 10, "b": 7}, {"a": 10})
    again = renamed(past, {"a": 10, "a+": 10})
    assert set(again.clock).isdisjoint({"a", "a+"})
    assert sorted(again.clock.values()) == [7, 10]
    assert again.clock["b"] == 7
    assert list(again.owned.values()) == [10]
    assert set(again.owned) <= set(again.clock)


def test_of_other_samples_no_name_is_changed() -> None:
    past = Past([], [], {"a": 10}, {"a": 10})
    assert renamed(past, {"b": 7}).clock == {"a": 10}
