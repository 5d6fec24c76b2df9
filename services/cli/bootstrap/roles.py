"""The user's role in its account, where Anchore has roles.

The Engine lets every user of an account do everything in it. Anchore Enterprise gives a new user nothing: without a role it
could neither add images nor hold policies and notification endpoints of its own. A server that knows no roles answers 404.
"""

import msgspec

from services.cli.bootstrap.anchore import Anchore
from services.cli.bootstrap.plan import Plan, Verb
from shared.anchore import AnchoreApi

ROLE = "full-control"
"""In its own account only."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A role of a user in one domain, which for accounts is the account's name."""

    role: str = ""


async def give_role(plan: Plan, admin: Anchore, account: str, username: str) -> None:
    """The role, given once. Raises `Unavailable`, `Refused`."""
    if admin.api is AnchoreApi.V1:
        return
    path = f"/rbac-manager/users/{username}/roles"
    found = await admin.get(path, list[Membership], {"domain_name": account})
    if found is None:  # no roles, or in a dry run nobody to have one
        return
    if any(each.role == ROLE for each in found):
        plan.note(Verb.UNCHANGED, f"role {ROLE} of {username}")
        return
    body = {"username": username, "domain_name": account}
    await plan.change(
        Verb.CREATED,
        f"role {ROLE} of {username}",
        lambda: admin.send("POST", f"/rbac-manager/roles/{ROLE}/members", body),
    )
