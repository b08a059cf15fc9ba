"""Payloads: what was written once is read for ever."""

from hashlib import sha256
from importlib.resources import files

import pytest
import zstandard

from ops.simulator.history import World
from schemas import payload
from schemas.payload import UnknownDictionaryError, make_pack, unpack

SHIPPED = {
    40_001: "df05e5a8b4c229f66e6ea569356296a852446c25df456e8ed39185eb72be472c",
}
"""Every dictionary that was ever written with; an entry never changes."""

BODIES = [event.body for event in World("payload", 1_790_000_000).history(1).events]


def test_every_dictionary_is_there_as_it_was() -> None:
    """What was written with a dictionary can be read by that dictionary alone."""
    folder = files("schemas").joinpath("dictionaries")
    found = {
        int(file.name.removesuffix(".zdict")): sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
    }
    assert found == SHIPPED
    assert max(SHIPPED) == payload.NEWEST


def test_a_body_comes_back_as_it_was() -> None:
    """Packed and unpacked it is the same bytes, Stripe's or anybody's."""
    pack, bodies = make_pack(), [*BODIES, b"{}", bytes(range(256)) * 100]
    assert list(map(unpack, pack(bodies))) == bodies
    assert pack([]) == []


def test_a_payload_without_a_dictionary_is_read() -> None:
    """The first rows were written without one."""
    assert unpack(zstandard.compress(BODIES[0])) == BODIES[0]


def test_a_payload_is_half_of_one_without_a_dictionary() -> None:
    """The names of Stripe's fields are not stored again with each event."""
    packed, plain = make_pack()(BODIES), list(map(zstandard.compress, BODIES))
    assert sum(map(len, packed)) < sum(map(len, plain)) / 2


def test_an_unknown_dictionary_is_named() -> None:
    """A payload from a newer version says so, instead of looking broken."""
    newer = zstandard.train_dictionary(4096, [*BODIES] * 20, dict_id=2_000_000)
    written = zstandard.ZstdCompressor(dict_data=newer).compress(BODIES[0])
    with pytest.raises(UnknownDictionaryError, match="newer hookline"):
        unpack(written)
