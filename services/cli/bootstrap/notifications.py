"""Anchore tells Moorgate what changed, so that an image is looked at again before its verdict is stale.

API v2 keeps webhook endpoints of each account; ours is found by its URL, and its description says by a slow hash which secret
it carries, since Anchore shows none. The Engine (API v1) reads its webhooks from its own configuration only: what to write
there is printed, without the secret. The secret goes by basic authentication: URLs end up in lists and logs.
"""

import hashlib

import msgspec

from services.cli.bootstrap.anchore import Anchore
from services.cli.bootstrap.plan import Plan, Verb
from services.cli.bootstrap.settings import Receiver
from shared.anchore import AnchoreApi
from shared.errors import Unavailable

USERNAME = "anchore"
"""Of the basic authentication that the scanners expect."""

CONFIGURATIONS = "/notifications/endpoints/webhook/configurations"


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook endpoint as API v2 shows it."""

    url: str = ""
    uuid: str = ""
    description: str | None = None
    username: str | None = None
    verify_ssl: bool | None = None
    verify_tls: bool | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Which events."""

    type: str = ""
    level: str = ""
    resource_type: str = ""


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to an endpoint."""

    scope: str
    event: Event


EVERYTHING = Selector(scope="account", event=Event(type="user.*", level="*", resource_type="*"))
"""Of this account: analyses, policy evaluations, vulnerabilities, a new active bundle. A notification is a hint only."""


async def subscribe(plan: Plan, anchore: Anchore | None, api: AnchoreApi, receiver: Receiver) -> None:
    """The endpoint and its selector, or the lines for the Engine's configuration. Raises the adapters' errors."""
    if api is AnchoreApi.V1:
        plan.note(Verb.BY_HAND, f"notifications: {_engine_configuration(receiver)}")
        return
    configurations = await anchore.get(CONFIGURATIONS, list[Configuration]) if anchore else None
    present = next((each for each in configurations or () if each.url == receiver.url), None)
    if anchore is None:
        plan.note(Verb.CREATED, f"notifications to {receiver.url}")
        return
    present = await _configure(plan, anchore, receiver, present)
    await _select(plan, anchore, receiver, present)


async def _configure(
    plan: Plan, anchore: Anchore, receiver: Receiver, present: Configuration | None
) -> Configuration | None:
    """The endpoint as it is now; None where a dry run would make it."""
    wanted = _configuration(receiver)
    body = {**_fields(wanted), "password": receiver.secret.reveal()}
    what = f"notifications to {receiver.url}"
    if present is None:
        await plan.change(
            Verb.CREATED, what, lambda: anchore.send("POST", CONFIGURATIONS, body, hide=receiver.secret)
        )
        found = await anchore.get(CONFIGURATIONS, list[Configuration]) or []
        return next((each for each in found if each.url == receiver.url), None)
    if _fields(present) == _fields(wanted):
        plan.note(Verb.UNCHANGED, what)
    else:
        path = f"{CONFIGURATIONS}/{present.uuid}"
        await plan.change(Verb.UPDATED, what, lambda: anchore.send("PUT", path, body, hide=receiver.secret))
    return present


async def _select(plan: Plan, anchore: Anchore, receiver: Receiver, present: Configuration | None) -> None:
    what = f"selector {EVERYTHING.event.type} of notifications to {receiver.url}"
    path = f"{CONFIGURATIONS}/{present.uuid}/selectors" if present else ""
    selectors = await anchore.get(path, list[Selector]) if present else None
    if EVERYTHING in (selectors or ()):
        plan.note(Verb.UNCHANGED, what)
        return
    if present is None and not plan.is_dry:
        raise Unavailable("anchore", f"the notification endpoint {receiver.url} was made and is not listed")
    await plan.change(Verb.CREATED, what, lambda: anchore.send("POST", path, msgspec.to_builtins(EVERYTHING)))


def _configuration(receiver: Receiver) -> Configuration:
    salt = f"moorgate {receiver.url}".encode()
    key = hashlib.scrypt(receiver.secret.reveal().encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=4).hex()
    return Configuration(
        url=receiver.url,
        description=f"Moorgate looks at changed images again (secret {key})",
        username=USERNAME,
        verify_ssl=not receiver.skip_verify,
        verify_tls=not receiver.skip_verify,
    )


def _fields(configuration: Configuration) -> dict[str, object]:
    """What is ours to say; either of the two switches for certificates may be missing in an answer."""
    found = msgspec.structs.asdict(configuration)
    del found["uuid"]
    for one, other in (("verify_ssl", "verify_tls"), ("verify_tls", "verify_ssl")):
        if found[one] is None:
            found[one] = found[other]
    return found


def _engine_configuration(receiver: Receiver) -> str:
    """The part of the Engine's config.yaml. What is not at the top level of `webhooks` is lost at its first use."""
    verify = str(not receiver.skip_verify).lower()
    lines = (
        "API v1 takes webhooks from the Engine's config.yaml alone; write there, and restart its services:",
        "webhooks:",
        f"  webhook_user: {USERNAME}",
        f"  webhook_pass: <what stands in {receiver.secret_file}>",
        f"  ssl_verify: {verify}",
        "  general:",
        f'    url: "{receiver.url}/<userId>/<notification_type>"',
    )
    return "\n    ".join(lines)
