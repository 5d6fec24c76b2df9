"""Waiting for Anchore: at an installation it comes up with us, and sets up its database for minutes.

Whatever it answers while it starts (nothing, 404 of an ingress, 500) is waited through, and said when it changes. What no
waiting mends ends it at once: the administrator's password is wrong.
"""

import asyncio
import time
from collections.abc import Callable

from services.cli.bootstrap.anchore import open_anchore
from services.cli.bootstrap.plan import Failed
from shared.anchore import AnchoreApi, AnchoreHttp, AnchoreSettings, open_session
from shared.errors import MoorgateError

RETRY = 2.0
"""Seconds between two looks."""


async def await_anchore(
    settings: AnchoreSettings, wait_for: float, say: Callable[[str], None], retry: float = RETRY
) -> AnchoreApi:
    """The API that it speaks, once it answers the administrator. Raises `Failed` after `wait_for` seconds."""
    deadline = time.monotonic() + wait_for
    said = ""
    while True:
        try:
            return await _api(settings)
        except Failed:
            raise
        except MoorgateError as error:
            reason = " ".join(str(error).split())
        if time.monotonic() + retry > deadline:
            raise Failed(f"Anchore at {settings.root} did not get ready within {wait_for:g} s: {reason}")
        if reason != said:
            say(f"waiting for Anchore at {settings.root}: {reason}")
        said = reason
        await asyncio.sleep(retry)


async def _api(settings: AnchoreSettings) -> AnchoreApi:
    api = settings.api
    if api is AnchoreApi.AUTO:
        async with open_session(settings) as session:
            api = await AnchoreHttp(session, settings).detect()
    async with open_anchore(settings, api) as admin:
        if await admin.own_account() is None:
            raise Failed(
                f"Anchore at {settings.root} does not accept the password of {settings.username!r}:"
                " correct anchore.passwordFile"
            )
    return api
