"""The range checks: every limit on its right side, and what is no number keeps to no rule."""

import math

import pytest

from poisonbench import checks

# check, further arguments, values that pass, values that are refused
ROWS = [
    (checks.check_fraction, (), (1e-9, 0.5, 1 - 1e-9), (0, 1, -0.1, 1.5)),
    (checks.check_part, (), (1e-9, 0.5, 1), (0, -0.1, 1.5)),
    (checks.check_share, (), (0, 0.5, 1 - 1e-9), (1, -0.1, 1.5)),
    (checks.check_unit, (), (0, 0.5, 1), (-1e-9, 1 + 1e-9)),
    (checks.check_between, (2, 9), (2, 5, 9), (1, 10)),
    (checks.check_positive, (), (1e-9, 1e9), (0, -1, math.inf)),
    (checks.check_not_negative, (), (0, 1e9), (-1e-9, math.inf)),
    (checks.check_at_least, (3,), (3, 4, math.inf, None), (2, -3)),
    (checks.check_choice, (["one", "two"],), ("one", "two"), ("three", "on")),
    (checks.check_different, ("target", 3), (2, None), (3,)),
]
TYPES = [
    (checks.check_type, (str, "a name"), ("one",), (1, None)),
    (checks.check_whole, (), (3, -1), (1.5, "3", True, None)),
    (checks.check_number, (), (3, 0.5, math.inf), ("3", False, None)),
]
NUMBERS = [
    row for row in ROWS if row[0] not in (checks.check_choice, checks.check_different)
]


def test_every_check_has_a_row():
    named = {name for name in vars(checks) if name.startswith("check_")}
    assert {row[0].__name__ for row in ROWS + TYPES} == named


@pytest.mark.parametrize(("check", "limits", "good", "bad"), ROWS)
def test_a_value_passes_or_is_refused_with_the_name_and_the_value(
    check, limits, good, bad
):
    for value in good:
        check("field", value, *limits)
    for value in bad:
        with pytest.raises(ValueError, match=r"^field .*must .*, got ") as error:
            check("field", value, *limits)
        assert str(value) in str(error.value)


@pytest.mark.parametrize(("check", "limits", "good", "bad"), TYPES)
def test_a_value_of_another_type_is_refused_with_its_type(check, limits, good, bad):
    for value in good:
        check("field", value, *limits)
    for value in bad:
        with pytest.raises(TypeError, match=r"^field must be .*, got ") as error:
            check("field", value, *limits)
        got = "None" if value is None else f"{type(value).__name__} {value!r}"
        assert str(error.value).endswith(f"got {got}")


@pytest.mark.parametrize(("check", "limits"), [row[:2] for row in NUMBERS])
def test_what_is_no_number_keeps_to_no_rule(check, limits):
    with pytest.raises(ValueError, match="got nan"):
        check("field", math.nan, *limits)
