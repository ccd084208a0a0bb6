"""Numbers and names as text."""

import pytest

from drfpn.utils.formatting import percent, printable
from tests.names import NAMES


def test_a_metric_that_is_not_defined_is_a_dash() -> None:
    assert [percent(value) for value in (None, -1.0, float("nan"))] == ["-"] * 3
    assert [percent(value) for value in (0.0, 0.1234, 1.0)] == ["0.0", "12.3", "100.0"]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_one_line_of_visible_characters(name) -> None:
    text = printable(name)
    assert len(text) <= 60
    assert not set(text) & {chr(code) for code in (*range(32), 127)}
    if len(name) <= 60 and name.isprintable():
        assert text == name


def test_control_characters_are_escaped_and_the_middle_of_a_long_name_is_left_out() -> None:
    assert printable("one\ntwo\t\x1b\ud83d") == r"one\ntwo\t\x1b\ud83d"
    assert printable("0123456789", 9) == "012...789"
    assert printable("0123456789" * 100, None) == "0123456789" * 100
