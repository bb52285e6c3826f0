from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.media.cuts import Cuts, Join


def test_nothing_is_left_out_at_first() -> None:
    assert Cuts().in_file(12345) == 12345
    assert Cuts().joins == ()


def test_pieces_that_touch_are_one_join() -> None:
    cuts = Cuts()
    cuts.leave_out(100, 150)
    cuts.leave_out(150, 200)
    cuts.leave_out(300, 310)
    assert cuts.joins == (Join(100, 100, 100), Join(200, 300, 10))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20))
def test_both_clocks_count_what_is_kept(script: list[tuple[int, int]]) -> None:
    cuts, kept, position = Cuts(), [], 0
    for talk, left_out in script:
        kept += range(position, position + talk)
        position += talk
        cuts.leave_out(position, position + left_out)
        position += left_out
    kept += range(position, position + 10)
    assert [cuts.in_file(one) for one in kept] == list(range(len(kept)))
    gone = set(range(position)) - set(kept)
    assert all(cuts.in_file(one) == sum(other < one for other in kept) for one in gone)
    assert sum(join.left_out for join in cuts.joins) == len(gone)
