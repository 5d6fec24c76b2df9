"""Everything that can go wrong, by what it means for the delivery at hand.

    MoorgateError
    ├── BadSetting      a setting is wrong or missing: the process stops with one line
    ├── BadImage        an image reference that follows no grammar
    ├── Retryable       not now: give the delivery back and look again after `delay`
    ├── Unavailable     a neighbour is away: stop pulling, hold what there is until it answers
    ├── Permanent       no repetition helps: dead letter, then term
    ├── Conflict        somebody wrote first: read again and decide anew
    └── Refused         a neighbour understood the request and said no (HTTP 4xx)

Adapters raise only these, with the cause chained; `shared/consumer.py` is the one place
that turns them into ack, nak and term.
"""


class MoorgateError(Exception):
    """The root of what Moorgate raises on purpose."""


class BadSetting(MoorgateError):
    """A setting cannot be used; the text names it and says what it must be."""


class BadImage(MoorgateError):
    """A text that is no image reference; the text says why."""


class Retryable(MoorgateError):
    """Looking again later may help."""

    def __init__(self, message: str, *, delay: float) -> None:
        """`delay`: seconds until the next delivery."""
        super().__init__(message)
        self.delay = delay


class Unavailable(MoorgateError):
    """A neighbour (`anchore`, `nats`, `kubernetes`) does not answer at all."""

    def __init__(self, neighbour: str, message: str, *, delay: float = 1.0) -> None:
        """`delay`: seconds the neighbour asked to be left alone (Retry-After), else one."""
        super().__init__(f"{neighbour} is away: {message}")
        self.neighbour = neighbour
        self.delay = delay


class Permanent(MoorgateError):
    """The message itself is at fault; it would fail on every delivery."""


class Conflict(MoorgateError):
    """The value has changed since it was read."""


class Refused(MoorgateError):
    """A neighbour understood the request and said no; the caller knows what that means."""

    def __init__(self, status: int, message: str) -> None:
        """`status`: the HTTP status, 400 … 499."""
        super().__init__(f"{status}: {message}")
        self.status = status
