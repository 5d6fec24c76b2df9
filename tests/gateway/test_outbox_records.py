"""The outbox' file format: what is whole is read, whatever became of the rest, and nothing else is."""

import struct
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.outbox import records
from services.gateway.outbox.records import Acknowledged, Damage, Decision, NewerFormatError

PAYLOADS = st.builds(
    lambda message: msgspec.json.encode({"id": "x", "message": message}), st.text(max_size=60)
)
TRACES = st.sampled_from(["", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"])
RECORDS = st.lists(
    st.one_of(
        st.builds(records.decision, TRACES, PAYLOADS),
        st.builds(records.acknowledged, st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5)),
    ),
    min_size=1,
    max_size=8,
)


def positions(written: list[bytes]) -> list[tuple[int, int]]:
    """Where each record begins and ends in the file."""
    found, begin = [], records.HEADER_BYTES
    for each in written:
        found.append((begin, begin + len(each)))
        begin += len(each)
    return found


def whole(content: bytes) -> list[Any]:
    return [each for each in records.read(content) if not isinstance(each, Damage)]


def expected(written: list[bytes], untouched: list[bool]) -> list[Any]:
    """What reading the untouched ones alone gives, each where it stands."""
    found: list[Any] = []
    for record, (begin, _), is_untouched in zip(written, positions(written), untouched, strict=True):
        if is_untouched:
            [each] = whole(record)
            found.append(msgspec.structs.replace(each, offset=begin) if isinstance(each, Decision) else each)
    return found


@given(RECORDS)
def test_what_was_written_is_read(written: list[bytes]) -> None:
    content = records.header() + b"".join(written)
    assert list(records.read(content)) == expected(written, [True] * len(written))


@given(RECORDS, st.data())
def test_of_a_cut_file_every_whole_record_is_read(written: list[bytes], data: st.DataObject) -> None:
    content = records.header() + b"".join(written)
    cut = data.draw(st.integers(0, len(content)))
    found = list(records.read(content[:cut]))
    ends = [records.HEADER_BYTES, *(end for _, end in positions(written))]
    assert [each for each in found if not isinstance(each, Damage)] == expected(
        written, [end <= cut for end in ends[1:]]
    )
    torn = [each for each in found if isinstance(each, Damage)]
    begin = max((end for end in ends if end <= cut), default=0)
    assert torn == ([] if cut in (0, *ends) else [Damage(begin, cut)])


@given(RECORDS, st.data())
def test_of_a_file_with_a_wrong_byte_every_other_record_is_read_and_none_invented(
    written: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(records.header() + b"".join(written))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    found = list(records.read(bytes(content)))
    untouched = [not begin <= place < end for begin, end in positions(written)]
    assert [each for each in found if not isinstance(each, Damage)] == expected(written, untouched)
    [damage] = [each for each in found if isinstance(each, Damage)]
    assert damage.begin <= place < damage.end


@given(RECORDS, st.data())
def test_a_stretch_overwritten_with_anything_takes_its_own_records_only(
    written: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(records.header() + b"".join(written))
    begin = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))[: len(content) - begin]
    content[begin : begin + len(noise)] = noise
    untouched = [last <= begin or first >= begin + len(noise) for first, last in positions(written)]
    kept = expected(written, untouched)
    found = whole(bytes(content))
    assert [each for each in found if each in kept] == kept
    original = expected(written, [True] * len(written))
    assert all(each in original for each in found)


@given(st.binary(max_size=300))
def test_no_bytes_end_the_reader(content: bytes) -> None:
    for each in records.read(content):
        assert isinstance(each, Damage)


@given(st.binary(max_size=30))
def test_no_body_ends_the_reader(body: bytes) -> None:
    list(records.read(records.header() + records.framed(body)))


def test_a_file_of_a_newer_version_is_not_taken_for_damage() -> None:
    plain = struct.pack("<8sH", records.MAGIC, records.VERSION + 1)
    with pytest.raises(NewerFormatError):
        list(records.read(plain + struct.pack("<I", zlib.crc32(plain)) + records.decision("", b"{}")))


def test_the_format_is_what_it_says() -> None:
    """Old files must stay readable: these bytes are version 1."""
    written = "4d4f4f52474154450100ddadf991 fffd4d520d000000234b075b4403302d317b226964223a317d fffd4d52050000002b57d229410e000000"
    content = bytes.fromhex(written)
    assert list(records.read(content)) == [Decision(14, 25, "0-1", b'{"id":1}'), Acknowledged((14,))]
    assert content == records.header() + records.decision("0-1", b'{"id":1}') + records.acknowledged([14])
