"""The spelling of addresses and types."""

import pytest

from everspace import wire
from everspace._calls.call import address


@pytest.mark.parametrize("number", [0, 1, 0x1000, 0x100000000000, 2**64])
def test_an_address_is_spelled_in_hex_and_read_back(number: int) -> None:
    assert wire.hex_address(number) == hex(number)
    for spelling in (number, hex(number), "0x" + hex(number)[2:].upper(), str(number)):
        assert wire.parse_address(spelling) == number


def test_a_negative_address_is_passed_on_for_the_service_to_judge() -> None:
    assert wire.parse_address(-4096) == -4096
    assert address(-4096) == -4096
    assert address(4096) == "0x1000"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "0x",
        "x",
        "1_000",
        " 1",
        "1 ",
        "0b1",
        "-1",
        "-0x1",
        "--1",
        "0X1",
        "+1",
        "1.0",
        "٣",
        1.0,
        True,
        None,
        [],
        "9" * 41,
    ],
)
def test_what_is_no_address_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="not an address"):
        wire.parse_address(bad)


def test_types_have_names_and_numbers() -> None:
    assert [wire.parse_type(name) for name in ("ro", "wo", "rw")] == [0, 1, 2]
    assert wire.parse_type(3) == 3
    for bad in ("x", "RO", None, True, 1.0):
        with pytest.raises(ValueError, match="attach type"):
            wire.parse_type(bad)
