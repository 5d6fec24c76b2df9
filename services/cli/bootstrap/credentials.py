"""Moorgate's own account and user in Anchore, with a generated password that lives in a Secret.

The Secret is the truth, and is written before Anchore hears of the password: whatever line a run dies on, the next one finds
either credentials that work, or a Secret whose password it gives to the user. That also mends a database restored without the
user, a lost Secret (a new password), and a password changed in Anchore. No password is printed.
"""

import asyncio
import secrets as random
import time

import msgspec

from services.cli.bootstrap import secrets
from services.cli.bootstrap.anchore import Anchore, Identity, open_anchore
from services.cli.bootstrap.file import SecretName
from services.cli.bootstrap.plan import Failed, Plan, Verb
from services.cli.bootstrap.roles import give_role
from services.cli.bootstrap.secrets import KubeSecret
from services.cli.bootstrap.settings import BootstrapSettings
from shared.anchore import AnchoreApi, AnchoreSettings
from shared.cluster import Cluster
from shared.errors import Conflict, Refused
from shared.settings import Secret

SHORTEST, LONGEST = 6, 128
"""Characters of a password that Anchore takes."""

ACCEPTED_WITHIN = 30.0
"""Seconds until a new password must be accepted: Anchore's services keep credentials for some seconds."""

RETRY = 0.5
ATTEMPTS = 3
"""How often somebody else may write the Secret while we do."""


async def own_credentials(
    plan: Plan, admin: Anchore, cluster: Cluster, name: SecretName, settings: BootstrapSettings
) -> AnchoreSettings | None:
    """Who Moorgate is in Anchore; None in a dry run that could not make it so. Raises `Failed` and the adapters' errors."""
    await _account(plan, admin, settings)
    own = await _kept(plan, cluster, name, settings)
    is_known = await _works(own, admin.api, settings)
    if is_known:
        plan.note(Verb.UNCHANGED, f"user {own.username}")
    else:
        await _user(plan, admin, settings, own)
    await give_role(plan, admin, settings.account.name, own.username)
    return own if is_known or not plan.is_dry else None


async def _kept(
    plan: Plan, cluster: Cluster, name: SecretName, settings: BootstrapSettings
) -> AnchoreSettings:
    """The credentials, in the Secret."""
    for _ in range(ATTEMPTS):
        present = await secrets.read(cluster, name)
        wanted = _values(settings, present)
        try:
            await _secret(plan, cluster, name, present, wanted)
        except Conflict:  # another run has written it: its password counts
            continue
        password = Secret(wanted[secrets.PASSWORD])
        return msgspec.structs.replace(settings.known_anchore, username=settings.user.name, password=password)
    raise Failed(f"Secret {name}: somebody else writes it all the time")


def _values(settings: BootstrapSettings, present: KubeSecret | None) -> dict[str, str]:
    password = present.value(secrets.PASSWORD).strip() if present else ""
    if not SHORTEST <= len(password) <= LONGEST:
        password = random.token_urlsafe(32)
    return {
        secrets.USERNAME: settings.user.name,
        secrets.PASSWORD: password,
        secrets.ACCOUNT: settings.account.name,
        secrets.URL: settings.known_anchore.url,
    }


async def _account(plan: Plan, admin: Anchore, settings: BootstrapSettings) -> None:
    account = settings.account
    found = await admin.get(f"/accounts/{account.name}", Identity)
    if found is None:
        body = {"name": account.name} | ({"email": account.email} if account.email else {})
        await plan.change(
            Verb.CREATED, f"account {account.name}", lambda: admin.send("POST", "/accounts", body)
        )
    elif found.state != "enabled":
        raise Failed(
            f"account {account.name} is {found.state} in Anchore: enable it, or name another account"
        )
    else:
        plan.note(Verb.UNCHANGED, f"account {account.name}")


async def _secret(
    plan: Plan, cluster: Cluster, name: SecretName, present: KubeSecret | None, wanted: dict[str, str]
) -> None:
    if present and all(present.value(key) == value for key, value in wanted.items()):
        plan.note(Verb.UNCHANGED, f"Secret {name}")
        return
    verb = Verb.UPDATED if present else Verb.CREATED
    await plan.change(verb, f"Secret {name}", lambda: secrets.write(cluster, name, present, wanted))


async def _user(plan: Plan, admin: Anchore, settings: BootstrapSettings, own: AnchoreSettings) -> None:
    """The user with the Secret's password, accepted by Anchore."""
    users = f"/accounts/{settings.account.name}/users"
    found = await admin.get(f"{users}/{own.username}", msgspec.Raw)
    password = own.password.reveal()
    if found is None:
        body = {"username": own.username, "password": password}
        path, verb, what = users, Verb.CREATED, f"user {own.username}"
    else:
        body = {"type": "password", "value": password}
        path, verb = f"{users}/{own.username}/credentials", Verb.UPDATED
        what = f"user {own.username} (the Secret's password)"

    async def act() -> None:
        try:
            await admin.send("POST", path, body, hide=own.password)
        except Refused as error:
            if found is not None or not await _works(own, admin.api, settings):  # else another run was faster
                raise Failed(f"{what}: {error}; a user.name must be free in all accounts") from error
        await _accepted(own, admin.api, settings)

    await plan.change(verb, what, act)


async def _accepted(own: AnchoreSettings, api: AnchoreApi, settings: BootstrapSettings) -> None:
    deadline = time.monotonic() + ACCEPTED_WITHIN
    while not await _works(own, api, settings):
        if time.monotonic() > deadline:
            raise Failed(f"Anchore does not accept the new password of {own.username!r}: run this again")
        await asyncio.sleep(RETRY)


async def _works(own: AnchoreSettings, api: AnchoreApi, settings: BootstrapSettings) -> bool:
    """Whether Anchore knows the user by this password. Raises `Failed` where he belongs elsewhere."""
    async with open_anchore(own, api) as anchore:
        account = await anchore.own_account()
    if account is not None and account.name != settings.account.name:
        raise Failed(
            f"user {own.username} belongs to account {account.name}, not {settings.account.name}:"
            " choose another user.name"
        )
    return account is not None
