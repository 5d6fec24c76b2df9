"""Accounts, users and passwords, as v1's but for three answers.

A taken account name is 409, as v2's description says, a deletion is 204, and setting a password answers the password's record.
Guessed: the value in that answer is masked as in the list. Users of other kinds than `native` are not simulated.
"""

from deploy.dev.anchore.api import accounts
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.wire import Json


def listing(call: Call) -> Json:
    """All accounts, or those of one state."""
    return [shapes.account(record) for record in accounts.listing(call)]


def add(call: Call) -> Json:
    """The new account."""
    if call.body["name"] in call.engine.directory.accounts:
        raise refused(409, "Account already exists")
    return shapes.account(accounts.add(call))


def get(call: Call) -> Json:
    """Goes on being answered after a deletion."""
    return shapes.account(accounts.get(call))


def delete(call: Call) -> Json:
    """204; the account must have been disabled."""
    accounts.delete(call)
    return NO_CONTENT


def users(call: Call) -> Json:
    """Of one account."""
    return [shapes.user(record, call.path["account"]) for record in accounts.users(call)]


def add_user(call: Call) -> Json:
    """The password may be missing by the description, but then nobody could log in here."""
    if "password" not in call.body:
        raise refused(400, "Must include a password for native users")
    return shapes.user(accounts.add_user(call), call.path["account"])


def get_user(call: Call) -> Json:
    """One user of one account."""
    return shapes.user(accounts.get_user(call), call.path["account"])


def set_credential(call: Call) -> Json:
    """A new password."""
    accounts.set_credential(call)
    return accounts.credentials(call)[0]


def self_user(call: Call) -> Json:
    """Whoever asks."""
    return shapes.user(accounts.self_user(call), call.user.account)


def self_account(call: Call) -> Json:
    """The asker's own."""
    return shapes.account(accounts.self_account(call))


def set_self_credential(call: Call) -> Json:
    """A new password for whoever asks."""
    accounts.set_self_credential(call)
    return accounts.self_credentials(call)[0]
