"""What is read from a `traceparent`, and what is passed on."""

import pytest

from schemas.trace import Trace, go_on, read_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01".encode()
ODD = {
    "none": None,
    "empty": b"",
    "upper case": GOOD.upper(),
    "trace of zeros": f"00-{'0' * 32}-{SPAN}-01".encode(),
    "span of zeros": f"00-{TRACE}-{'0' * 16}-01".encode(),
    "version ff": b"ff" + GOOD[2:],
    "short trace": f"00-{TRACE[:-1]}-{SPAN}-01".encode(),
    "more behind": GOOD + b"-x",
    "line feed behind": GOOD + b"\n",
    "not ascii": GOOD[:-1] + b"\xc3",
    "half a megabyte": GOOD * 10_000,
}


def test_a_trace_goes_on() -> None:
    """The trace and its flags stay; the place in it is a new one."""
    assert read_trace(GOOD) == Trace(TRACE, SPAN, "01")
    assert str(read_trace(GOOD)).encode() == GOOD
    new = go_on(GOOD)
    assert (new.trace_id, new.flags) == (TRACE, "01")
    assert new.span_id != SPAN
    assert read_trace(str(new).encode()) == new


@pytest.mark.parametrize("header", ODD.values(), ids=ODD)
def test_an_odd_header_begins_a_trace(header: bytes | None) -> None:
    """What is not to the letter is no trace: a new one begins, which can be read."""
    assert read_trace(header) is None
    new = go_on(header)
    assert read_trace(str(new).encode()) == new
    assert new.trace_id != TRACE
