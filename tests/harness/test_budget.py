"""How rounds are dealt out: the least whatever it takes, the rest evenly, never more seconds than there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cometbench.budget import Group, allot


def test_with_time_enough_everyone_gets_all():
    groups = [Group("Q", 5, 20, 1, 10.0), Group("S", 5, 10, 1, 3.0), Group("once", 1, 1, 1, 60.0)]
    assert allot(groups, 19 * 10 + 9 * 3) == {"Q": 20, "S": 10, "once": 1}


def test_without_any_time_everyone_still_gets_the_least():
    assert allot([Group("Q", 5, 20, 1, 10.0), Group("S", 3, 10, 4, 3.0)], -100.0) == {"Q": 5, "S": 4}


def test_the_time_beyond_the_least_is_dealt_out_evenly():
    # 40 s behind the least: halves of what each group may have beyond it.
    groups = [Group("main", 5, 15, 5, 6.0), Group("other", 5, 9, 5, 5.0)]
    assert allot(groups, 40.0) == {"main": 10, "other": 7}


def test_a_round_that_does_not_fit_leaves_its_seconds_to_cheaper_ones():
    groups = [Group("dear", 1, 3, 1, 50.0), Group("cheap", 1, 4, 1, 1.0)]
    assert allot(groups, 10.0) == {"dear": 1, "cheap": 4}


GROUPS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 15), st.integers(0, 3), st.floats(0.01, 20.0)), max_size=6
)


@given(GROUPS, st.floats(-10.0, 500.0))
def test_no_more_is_begun_than_fits_and_no_group_is_left_out(drawn, seconds):
    groups = [
        Group(str(place), least, least + more, min(done, least + more), cost)
        for place, (least, more, done, cost) in enumerate(drawn)
    ]
    rounds = allot(groups, seconds)
    least = {group.name: max(group.least, group.done) for group in groups}
    spent = sum((rounds[group.name] - group.done) * group.round_seconds for group in groups)
    owed = sum((least[group.name] - group.done) * group.round_seconds for group in groups)
    for group in groups:
        assert least[group.name] <= rounds[group.name] <= group.most
    assert spent <= max(seconds, owed) + 1e-6
    for group in groups:
        if rounds[group.name] < group.most:
            assert spent + group.round_seconds > seconds - 1e-6
