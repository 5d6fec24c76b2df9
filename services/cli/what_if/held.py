"""The candidate in Anchore: added inactive under an id of its own for as long as the run takes, then removed again.

Both APIs evaluate only bundles that they hold. The id says whose it is:

    moorgate-what-if-<hash of the content>-<when the run is over for certain, in seconds since 1970>-<run>

A run that was killed leaves its bundle, and the next one takes it away: at once where the run was on this machine, for a lock
on a file, which the kernel takes back, tells the living from the dead; else when its time is over. Nobody's else is touched,
and Anchore itself refuses to delete a bundle that somebody has activated.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec

from services.cli.bootstrap import formats
from services.cli.bootstrap.bundle import Bundle
from services.cli.what_if.accounts import Account
from shared.errors import BadSetting, MoorgateError, Refused

LIFETIME = 3600.0
"""Seconds a run may take: its bundle's id says so."""

SKEW = 600.0
"""Seconds that clocks of two machines may differ."""

REMOVED_WITHIN = 20.0
"""Seconds that the removal may take: whoever presses Ctrl-C waits for it."""

_ID = re.compile(r"moorgate-what-if-[0-9a-f]{8}-(?P<over>[0-9]{10,12})-(?P<run>[0-9a-f]{16})")
_INVALID, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = (400, 422), 401, 403, 404

Say = Callable[[str], None]


@contextlib.asynccontextmanager
async def held(account: Account, bundle: Bundle, file: Path, say: Say) -> AsyncIterator[str]:
    """Have the bundle in Anchore; gives the id to check by. Raises `BadSetting` where Anchore refuses it."""
    present = account.bundles.get(bundle.id)
    if present is not None and present.bundle == bundle:
        yield bundle.id
        return
    with _living() as run:
        candidate = _candidate(bundle, run.name)
        adding = asyncio.create_task(_add(account, candidate, file))
        try:
            await asyncio.shield(adding)
            yield candidate.id
        finally:
            run.has_left = not await _away(account, candidate.id, adding, say)


async def clear(account: Account, now: float, say: Say) -> None:
    """Take away what runs have left that are over."""
    for bundle_id in account.bundles:
        found = _ID.fullmatch(bundle_id)
        if found is None:
            continue
        with _dead(found["run"], now > float(found["over"]) + SKEW) as is_dead:
            if is_dead:
                await _clear_one(account, bundle_id, say)


async def _clear_one(account: Account, bundle_id: str, say: Say) -> None:
    try:
        await _remove(account, bundle_id)
    except Refused as error:
        say(f"{bundle_id}, left by a run that was killed, cannot be removed from Anchore: {error}")
    else:
        say(f"removed {bundle_id} from Anchore (tenant {account.tenant}): a run that was killed had left it")


def _candidate(bundle: Bundle, run: str) -> Bundle:
    digest = hashlib.sha256(msgspec.json.encode(bundle)).hexdigest()[:8]
    over = int(time.time() + LIFETIME)
    return msgspec.structs.replace(
        bundle,
        id=f"moorgate-what-if-{digest}-{over}-{run}",
        name="moorgate what-if",
        description=f"Candidate {bundle.id[:100]} of a run of `moorgate what-if`, which removes it. Never activate it.",
    )


async def _add(account: Account, candidate: Bundle, file: Path) -> None:
    document = formats.write(candidate, account.policies.api)
    try:
        await account.policies.send("POST", "/policies", document)
    except Refused as error:
        said = str(error).partition(": ")[2]
        if error.status in _INVALID:
            raise BadSetting(f"--bundle: Anchore refuses {file}: {said}") from error
        if error.status == _FORBIDDEN:
            raise MoorgateError(
                f"Anchore lets {account.policies.username!r} add no bundle ({said}):"
                " give it the role full-control or policy-editor in its account"
            ) from error
        raise MoorgateError(f"the candidate could not be added: {said}") from error


async def _away(account: Account, bundle_id: str, adding: "asyncio.Task[None]", say: Say) -> bool:
    """Remove it, whatever came of adding it: an answer that was lost does not mean that it is not there."""
    try:
        async with asyncio.timeout(REMOVED_WITHIN):
            await asyncio.wait({adding})
            await _remove(account, bundle_id)
    except (MoorgateError, TimeoutError) as error:
        say(
            f"{bundle_id} is still in Anchore (tenant {account.tenant}), inactive: {str(error) or 'no answer in time'};"
            " the next run removes it, or delete it by hand"
        )
        return False
    return True


async def _remove(account: Account, bundle_id: str) -> None:
    try:
        await account.policies.send("DELETE", f"/policies/{bundle_id}", None)
    except Refused as error:
        if error.status != _NOT_FOUND:
            raise


class _Run:
    """A run's name, and whether something of it is left."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.has_left = True


@contextlib.contextmanager
def _living() -> Iterator[_Run]:
    """A run, with a lock that ends with this process. Without a place for it only time tells that a run is over.

    The file stays for as long as something is left: without it nobody could tell that the run is over.
    """
    run = _Run()
    try:
        path = _folder() / run.name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, RuntimeError):  # a read-only home, or none
        yield run
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield run
    finally:
        if not run.has_left:
            path.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def _dead(run: str, is_over: bool) -> Iterator[bool]:  # noqa: FBT001  the other of two signs
    """Whether a run is over; nobody else clears up after it meanwhile."""
    try:
        path = _folder() / run
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (OSError, RuntimeError):  # of another machine, or another's
        yield is_over
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "moorgate" / "what-if"
