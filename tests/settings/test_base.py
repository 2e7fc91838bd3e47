"""Error messages of pydantic as cnnbench shows them."""

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, TypeAdapter, ValidationError

from cnnbench.errors import reason


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("allowed: odd numbers")
    return number


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "x", "should be a valid integer, unable to parse string as an integer"),
        (Annotated[int, AfterValidator(_odd)], 2, "allowed: odd numbers"),
    ],
)
def test_a_reason_follows_the_setting_and_its_value(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    (item,) = caught.value.errors()
    assert reason(item) == message
