"""Who asks, and which namespaces they may see: the API server's answers, remembered for a moment.

Who may list Audits in the cluster sees everything; everybody else sees the namespaces where they may list them. An
answer counts for `REMEMBERED` seconds and not longer, so a right that is taken away, or a token that is revoked, ends
within that time, on a live stream too. Where the API server cannot be asked nobody is let in: this falls closed.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from services.audit_writer.page.attempts import Attempts
from services.audit_writer.page.reviews import Person
from services.audit_writer.page.views import Visible

REMEMBERED = 15.0
"""Seconds an answer of the API server counts."""

GOOD_FOR = 600.0
"""Seconds after which whose token was good is a stranger again: the browser of a machine that slept."""

MAX_REMEMBERED = 5000
"""Answers kept at once, of each kind; the oldest go first."""

AT_ONCE = 8
"""Questions to the API server at once."""

MAX_NAMESPACES = 200
"""Namespaces asked about for somebody who may not list Audits everywhere; beyond, they must name one."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)

K = TypeVar("K")
V = TypeVar("V")


class Reviewing(Protocol):
    """Whoever knows: the API server, or a test in its place."""

    async def who(self, token: str) -> Person | None:
        """Whose token it is."""

    async def may_list(self, person: Person, namespace: str) -> bool:
        """Whether they may list Audits there."""


class TooManyAttemptsError(Exception):
    """Nobody asks for this address now; `delay` seconds later somebody may."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"come back in {delay:.0f} s")
        self.delay = delay


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose token is good, and what they may see."""

    name: str
    visible: Visible
    """Of the namespaces where there are Audits."""
    has_more: bool = False
    """There are more namespaces than were asked about."""

    @property
    def sees_something(self) -> bool:
        """False: there is nothing to show, and nothing to choose from."""
        return self.visible != frozenset() or self.has_more

    def may_see(self, namespace: str) -> bool:
        """Whether an Audit there may be shown."""
        return self.visible is None or namespace in self.visible


class Access:
    """Answers who somebody is and what they may see, asking no more than it must."""

    def __init__(self, reviews: Reviewing, namespaces: Callable[[], Iterable[str]]) -> None:
        """`namespaces`: where there are Audits now."""
        self._reviews = reviews
        self._namespaces = namespaces
        self._people: Memory[str, Person | None] = Memory(REMEMBERED)
        self._rights: Memory[tuple[str, str], bool] = Memory(REMEMBERED)
        self._good: OrderedDict[str, float] = OrderedDict()
        self._attempts = Attempts()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def guest(self, token: str, address: str, namespace: str = "") -> Guest | None:
        """Whose token it is, with what they may see; None: nobody's.

        `namespace`: asked about in any case. Raises `TooManyAttemptsError`, `Unavailable`, `Refused`.
        """
        digest = _digest(token)
        person = await self._who(digest, token, address)
        if person is None:
            return None
        if await self._may(digest, person, ""):
            return Guest(name=person.username, visible=None)
        names = list(self._namespaces())
        named = [namespace] if _NAMESPACE.fullmatch(namespace) else []
        asked = dict.fromkeys(names[:MAX_NAMESPACES] + named)
        seen = await self._allowed(digest, person, asked)
        return Guest(name=person.username, visible=seen, has_more=len(names) > MAX_NAMESPACES)

    async def again(self, token: str, address: str, guest: Guest) -> Guest | None:
        """Whether the guest may still see what they saw; what else they might see is asked at their next view.

        Raises like `guest`.
        """
        if guest.visible is None:
            return await self.guest(token, address)
        digest = _digest(token)
        person = await self._who(digest, token, address)
        if person is None:
            return None
        seen = await self._allowed(digest, person, guest.visible)
        return Guest(name=person.username, visible=seen, has_more=guest.has_more)

    async def _who(self, digest: str, token: str, address: str) -> Person | None:
        if not self._people.has(digest):
            self._count(digest, address)
        person = await self._people.get(digest, lambda: self._in_turn(self._reviews.who(token)))
        self._note(digest, is_good=person is not None)
        return person

    async def _allowed(self, digest: str, person: Person, namespaces: Iterable[str]) -> frozenset[str]:
        asked = tuple(namespaces)
        answers = await asyncio.gather(*(self._may(digest, person, each) for each in asked))
        return frozenset(name for name, is_allowed in zip(asked, answers, strict=True) if is_allowed)

    def _count(self, digest: str, address: str) -> None:
        """A stranger's attempt; whose token was good a moment ago is none."""
        now = asyncio.get_running_loop().time()
        if self._good.get(digest, now - GOOD_FOR) > now - GOOD_FOR:
            return
        if delay := self._attempts.take(address, now):
            raise TooManyAttemptsError(delay)

    def _note(self, digest: str, *, is_good: bool) -> None:
        self._good.pop(digest, None)
        if is_good:
            self._good[digest] = asyncio.get_running_loop().time()
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)

    async def _may(self, digest: str, person: Person, namespace: str) -> bool:
        return await self._rights.get(
            (digest, namespace), lambda: self._in_turn(self._reviews.may_list(person, namespace))
        )

    async def _in_turn(self, question: Awaitable[V]) -> V:
        async with self._turns:
            return await question


def _digest(token: str) -> str:
    """What stands for a token in memory."""
    return hashlib.sha256(token.encode()).hexdigest()


class Memory(Generic[K, V]):
    """Answers that count for a while; the same question at once is asked once."""

    def __init__(self, seconds: float, limit: int = MAX_REMEMBERED) -> None:
        self._seconds = seconds
        self._limit = limit
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    def has(self, key: K) -> bool:
        """Whether the answer is there, or being asked for."""
        return key in self._asking or self._known(key)

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer, asked for where it is not there; whoever waits may go away without harm to the others."""
        if self._known(key):
            return self._answers[key][1]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(self._ask(key, ask))
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        began = asyncio.get_running_loop().time()
        answer = await ask()
        self._answers.pop(key, None)
        self._answers[key] = (began + self._seconds, answer)
        if len(self._answers) > self._limit:
            self._answers.popitem(last=False)
        return answer

    def _end(self, key: K, done: "asyncio.Task[V]") -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has heard it; nobody waiting is no reason to complain

    def _known(self, key: K) -> bool:
        until, _ = self._answers.get(key, (0.0, None))
        return until > asyncio.get_running_loop().time()
