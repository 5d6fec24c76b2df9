"""Accounts, users and passwords, and the two operations by which somebody sees himself.

Only the admin account's users may manage others. An account must be disabled before it can be deleted, and goes on being
shown as `deleting`; a deleted user's credentials are accepted for a moment longer, as the real server caches them.
"""

from deploy.dev.anchore.accounts import Account, User
from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.wire import Json


def listing(call: Call) -> Json:
    """All accounts, or those of one state."""
    state = call.query.get("state")
    accounts = call.engine.directory.accounts.values()
    return [account.show() for account in accounts if state in {None, account.state}]


def add(call: Call) -> Json:
    """400 for a name that is taken, though the API description says 409."""
    name = call.body["name"]
    if name in call.engine.directory.accounts:
        raise refused(400, "Account already exists")
    return call.engine.add_account(name, call.body.get("email")).show()


def get(call: Call) -> Json:
    """Goes on being answered after a deletion."""
    return _account(call).show()


def set_state(call: Call) -> Json:
    """To enabled or disabled."""
    account = _account(call)
    wanted = call.body.get("state")
    if account.is_admin:
        raise refused(400, "Cannot change state of the admin account")
    if account.state == "deleting":
        raise refused(
            400, f"Invalid account state change requested. Cannot go from state deleting to state {wanted}"
        )
    account.state, account.updated = wanted, call.now
    return {"state": account.state}


def delete(call: Call) -> Json:
    """Its users can't log in any more."""
    account = _account(call)
    if account.is_admin:
        raise refused(400, "Account cannot be deleted")
    if account.state == "enabled":
        raise refused(
            400, "Invalid account state change requested. Cannot go from state enabled to state deleting"
        )
    account.state, account.updated = "deleting", call.now
    for user in call.engine.directory.users_of(account.name):
        user.deleted = call.now
    return {"state": "deleting"}


def users(call: Call) -> Json:
    """Of one account."""
    return [user.show() for user in call.engine.directory.users_of(_account(call).name)]


def add_user(call: Call) -> Json:
    """User names are unique across accounts."""
    account = _account(call)
    present = call.engine.directory.users.get(call.body["username"])
    if present is not None and present.deleted is None:
        raise refused(400, "User already exists")
    return call.engine.add_user(account.name, call.body["username"], call.body["password"]).show()


def get_user(call: Call) -> Json:
    """One user of one account."""
    return _user(call).show()


def delete_user(call: Call) -> Json:
    """204; nobody can delete himself."""
    user = _user(call)
    if user is call.user:
        raise refused(400, "Cannot delete credential used for authentication of the request")
    user.deleted = call.now
    return NO_CONTENT


def credentials(call: Call) -> Json:
    """Masked."""
    return _user(call).show_credentials()


def set_credential(call: Call) -> Json:
    """A new password."""
    return _set_password(call, _user(call))


def self_user(call: Call) -> Json:
    """Whoever asks."""
    return call.user.show()


def self_account(call: Call) -> Json:
    """The asker's own, whatever account he acts for."""
    return call.engine.directory.accounts[call.user.account].show()


def self_credentials(call: Call) -> Json:
    """Masked."""
    return call.user.show_credentials()


def set_self_credential(call: Call) -> Json:
    """A new password for whoever asks."""
    return _set_password(call, call.user)


def _set_password(call: Call, user: User) -> Json:
    user.password, user.password_created = call.body["value"], call.now
    return user.show()


def _account(call: Call) -> Account:
    account = call.engine.directory.accounts.get(call.path["account"])
    if account is None:
        raise refused(404, "Account not found")
    return account


def _user(call: Call) -> User:
    user = call.engine.directory.users.get(call.path["username"])
    if user is None or user.deleted is not None or user.account != _account(call).name:
        raise refused(404, "User not found")
    return user
