"""What pages show of JSON: its beginning, without laying out the rest."""

import json

from hypothesis import given
from hypothesis import strategies as st
from tasks.text import spelled
from tasks.web.shown import _beginning, line, parameters, pretty

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=60,
)


@given(JSON.filter(lambda one: not isinstance(one, str)), st.integers(1, 200))
def test_what_is_shown_is_the_beginning_of_all(value: object, most: int) -> None:
    whole = json.dumps(value, ensure_ascii=False, indent=2)
    assert pretty(value, most) == (whole if len(whole) <= most else whole[:most] + "\n…")
    wrapped = {"x": value}
    assert parameters(wrapped, most) == line(spelled(wrapped), most)


def test_no_more_is_looked_at_than_is_shown() -> None:
    many = [{"edits": [[number, number]] * 100} for number in range(1000)]
    assert len(spelled(_beginning(many, [300]))) < 600
