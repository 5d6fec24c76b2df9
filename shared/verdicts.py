"""A verdict as it lies in its bucket: a value for the pure modules, which know nothing of buckets."""

from typing import NamedTuple

from shared.contracts import Verdict


class StoredVerdict(NamedTuple):
    """A verdict and the revision it has in the bucket."""

    verdict: Verdict
    revision: int
