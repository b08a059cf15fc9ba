"""An event's body as it stands in webhook_events: zstd, with a dictionary that ships with hookline.

A body compressed alone is mostly the names of Stripe's fields, which are the same in each; the
dictionary holds them, so that a payload is half as large. Its id stands in each frame. No
dictionary is ever changed or dropped: what was once written stays readable. A new one gets the
next id (ops/train_dictionary.py). No I/O but for reading the package's own files.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

import zstandard

LEVEL = 3
NEWEST = 40_001
"""What is written with; zstd leaves the ids from 32,768 on to private use."""

Pack = Callable[[Sequence[bytes]], list[bytes]]


class UnknownDictionaryError(ValueError):
    """A payload was written with a dictionary that this version does not have."""


def make_pack() -> Pack:
    """Return a function that compresses bodies, none of them empty; for one thread at a time.

    Many in one go: between other work the dictionary would have to come from memory each time.
    """
    dictionary = zstandard.ZstdCompressionDict(_read(NEWEST))
    dictionary.precompute_compress(LEVEL)
    compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)

    def pack(bodies: Sequence[bytes]) -> list[bytes]:
        if not bodies:
            return []
        frames = compressor.multi_compress_to_buffer(list(bodies))
        return [frames[index].tobytes() for index in range(len(bodies))]

    return pack


def unpack(payload: bytes) -> bytes:
    """Return the body, whatever dictionary it was written with, or none.

    Raises UnknownDictionaryError, or zstandard.ZstdError for what is no payload.
    """
    number = zstandard.get_frame_parameters(payload).dict_id
    return zstandard.ZstdDecompressor(dict_data=_dictionary(number)).decompress(payload)


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict | None:
    return zstandard.ZstdCompressionDict(_read(number)) if number else None


def _read(number: int) -> bytes:
    try:
        return files("schemas").joinpath(f"dictionaries/{number}.zdict").read_bytes()
    except FileNotFoundError:
        raise UnknownDictionaryError(
            f"the payload was written by a newer hookline, with the dictionary {number}: "
            "use that version or a newer one"
        ) from None
