"""Inputs by hypothesis: seeds with damage, several in a row, bits of other seeds, and plain noise.

Nothing guides it; what is guided by coverage is `make fuzz`.
"""

from hypothesis import strategies as st

_NASTY = (
    b"\x00", b"\xff", b"\n", b"\r\n", b"\x1b[2J", b'"', b"{", b"[", b"}", b"null", b"-1", b"1e999", b"9" * 400,
    b"NaN", b"*", b">", b"..", b"/", b"\\ud800", "\u202e".encode(), b" ", b"\t", b"!!bool ", b"&a ", b"*a",
    b"9999-12-31T23:59:59+00:00", b"0001-01-01T00:00:00Z",
)  # fmt: skip


def damaged(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs that are mostly like a seed. Of large seeds each damage would hit nothing: they are tried as they are."""
    small = [seed for seed in seeds if len(seed) <= 20_000] or [b""]
    pieces = st.one_of(
        st.sampled_from(_NASTY), st.binary(max_size=6), st.sampled_from(small).map(lambda s: s[:40])
    )
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), pieces), min_size=1, max_size=5)
    return st.one_of(st.builds(_edit, st.sampled_from(small), edits), st.binary(max_size=64))


def _edit(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, cut, piece in edits:
        at = int(place * len(seed))
        seed = seed[:at] + piece + seed[at + cut :]
    return seed
