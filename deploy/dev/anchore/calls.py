"""One call of one operation: who asks, on whose behalf, for what.

An operation is a row in a table (method, path, permission, parameters, handler); the server turns a request into a Call and
hands it to the handler, which answers JSON or raises a Refusal.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from deploy.dev.anchore import schemas
from deploy.dev.anchore.accounts import Space, User
from deploy.dev.anchore.engine import Engine
from deploy.dev.anchore.errors import bad_request, problem
from deploy.dev.anchore.wire import Json

SYSTEM = "system"
"""The permission domain of what belongs to no account; only the admin account has it."""

NO_CONTENT = object()
"""Answered as 204."""

EMPTY = object()
"""Answered as 200 without a body."""


@dataclass(kw_only=True)
class Call:
    """What a handler gets."""

    engine: Engine
    user: User
    space: Space
    path: dict[str, str]
    query: dict[str, str]
    body: Json = None

    @property
    def now(self) -> float:
        """The simulator's present."""
        return self.engine.clock.now()

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean query parameter; the server has checked it."""
        return self.query.get(name, str(default)).lower() == "true"

    def asked(self, parameters: dict[str, str] | None = None, body: Json = None) -> "Call":
        """The same call in API v1's words: query parameters renamed, and another body."""
        names = parameters or {}
        query = {names.get(name, name): value for name, value in self.query.items()}
        return replace(self, query=query, body=body)


Handler = Callable[[Call], Json]


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    name: str
    """As it is counted and as faults are put in for it."""
    method: str
    path: str
    handler: Handler
    action: str | None = None
    """The permission; None: every user has it."""
    domain: str | None = None
    """SYSTEM, or None for the account that is acted for."""
    body: schemas.Schema | None = None
    """What the request's body must look like; None: it isn't read."""
    is_public: bool = False
    """Answered without credentials."""
    needed: tuple[str, ...] = ()
    """Query parameters without which the call is refused."""
    booleans: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    choices: tuple[tuple[str, tuple[str, ...], str], ...] = ()
    """Query parameters with fixed values: name, values, and the description that the refusal quotes."""

    @property
    def is_v2(self) -> bool:
        """Whether it belongs to API v2, which says no in a shape of its own."""
        return self.path.startswith(("/v2", "/(v2"))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a request's path."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))

    def check_query(self, query: dict[str, str]) -> None:
        """Refuse what the API description doesn't allow; unknown parameters are ignored."""
        for name in self.needed:
            if name not in query:
                raise bad_request(f"Missing query parameter '{name}'")
        for name in query.keys() & self.booleans:
            schemas.read_boolean(name, query[name])
        for name in query.keys() & self.integers:
            schemas.read_integer(name, query[name])
        for name, choices, description in self.choices:
            if name in query:
                schemas.read_choice(name, query[name], choices, description)


class Operations:
    """The table, searched by method and path."""

    def __init__(self, operations: list[Operation]) -> None:
        self.all = operations

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """The first row that fits; raises the router's 404 or 405."""
        wanted = "GET" if method == "HEAD" else method
        is_known = False
        for operation in self.all:
            matched = operation.pattern.fullmatch(path)
            if matched and operation.method == wanted:
                return operation, matched.groupdict()
            is_known = is_known or matched is not None
        if is_known:
            raise problem(405, "Method Not Allowed", "The method is not allowed for the requested URL.")
        text = (
            "The requested URL was not found on the server. If you entered the URL manually please check your spelling "
            "and try again."
        )
        raise problem(404, "Not Found", text)
