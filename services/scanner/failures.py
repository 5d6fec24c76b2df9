"""Why a scan gave no verdict, told apart: what Anchore says of the image, or of itself.

    ScanFailed    an answer about this image (or about us): becomes an error state of this class
    NotAnalyzed   the analysis is under way
    TryAgain      an inner error that passes: the same request later, an error state after a few times

Anchore not answering at all is `shared.errors.Unavailable`.
"""

from shared.contracts import ErrorClass
from shared.errors import MoorgateError


class ScanFailed(MoorgateError):
    """No verdict, and the reason has a class of its own."""

    def __init__(self, error: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error = error


class NotAnalyzed(MoorgateError):
    """Anchore has the image and has not finished looking into it."""


class TryAgain(MoorgateError):
    """Anchore stumbled over itself; asking again helps."""
