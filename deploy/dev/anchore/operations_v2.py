"""API v2's rows of the table. An operation has the same name in both APIs, so faults, counters and latencies are for both.

Left out: everything that API v1's table leaves out, and what only the later server has (ancestors, artifacts, inventories,
roles, API keys, …).
"""

from deploy.dev.anchore import schemas_v2 as schemas
from deploy.dev.anchore.api import accounts as accounts_v1
from deploy.dev.anchore.api_v2 import (
    accounts,
    checks,
    endpoints,
    images,
    policies,
    registries,
    subscriptions,
    system,
)
from deploy.dev.anchore.calls import SYSTEM, Operation

_STATES = ("not_analyzed", "analyzed", "analyzing", "analysis_failed")
_STATUS = "Filter by image_status value on the record. Default if omitted is 'active'."
_CHOICES = (
    ("analysis_status", _STATES, "Filter by analysis_status value on the record."),
    ("image_status", ("all", "active", "deleting"), _STATUS),
)
_CONFIGURATION = "NotificationEndpointConfiguration"
_OF_ACCOUNTS = (("state", ("enabled", "disabled", "deleting"), "Filter accounts by state"),)


def rows() -> list[Operation]:
    """Paths without `/v2` stand here too, for a server that has no v1: there the rows of v1 come first."""
    return [
        *_system(),
        *_accounts(),
        *_users(),
        *_images(),
        *_policies(),
        *_subscriptions(),
        *_registries(),
        *_endpoints(),
        *_selectors(),
    ]


def _system() -> list[Operation]:
    row = Operation
    feeds = "/v2/system/feeds"
    return [
        row("ping", "GET", "/(v2/?)?", system.ping, is_public=True),
        row("health", "GET", "/(v2/)?health", system.health, is_public=True),
        row("version", "GET", "/(v2/)?version", system.version, is_public=True),
        row("status", "GET", "/v2/status", system.status),
        row("feeds", "GET", feeds, system.feeds),
        row("feeds_sync", "POST", feeds, system.sync_feeds, "updateFeeds", SYSTEM, booleans=("force_sync",)),
    ]


def _accounts() -> list[Operation]:
    every, one = "/v2/accounts", "/v2/accounts/{account}"
    state, update = f"{one}/state", "updateAccount"
    row = Operation
    return [
        row(
            *("accounts_list", "GET", every, accounts.listing, "listAccounts", SYSTEM),
            choices=_OF_ACCOUNTS,
        ),
        row("account_add", "POST", every, accounts.add, "createAccount", SYSTEM, schemas.ACCOUNT),
        row("account_get", "GET", one, accounts.get, "getAccount", SYSTEM),
        row("account_delete", "DELETE", one, accounts.delete, "deleteAccount", SYSTEM),
        row("account_state", "PUT", state, accounts_v1.set_state, update, SYSTEM, schemas.ACCOUNT_STATE),
        row("self_account", "GET", "/v2/account", accounts.self_account),
    ]


def _users() -> list[Operation]:
    every = "/v2/accounts/{account}/users"
    one = f"{every}/{{username}}"
    passwords, own = f"{one}/credentials", "/v2/user/credentials"
    row = Operation
    return [
        row("users_list", "GET", every, accounts.users, "listUsers", SYSTEM),
        row("user_add", "POST", every, accounts.add_user, "createUser", SYSTEM, schemas.USER),
        row("user_get", "GET", one, accounts.get_user, "getUser", SYSTEM),
        row("user_delete", "DELETE", one, accounts_v1.delete_user, "deleteUser", SYSTEM),
        row("credentials_list", "GET", passwords, accounts_v1.credentials, "getUser", SYSTEM),
        row(
            *("credential_set", "POST", passwords, accounts.set_credential, "updateUser", SYSTEM),
            body=schemas.CREDENTIAL,
        ),
        row("self_user", "GET", "/v2/user", accounts.self_user),
        row("self_credentials", "GET", own, accounts_v1.self_credentials),
        row("self_credential_set", "POST", own, accounts.set_self_credential, body=schemas.CREDENTIAL),
    ]


def _images() -> list[Operation]:
    every, one = "/v2/images", "/v2/images/{digest}"
    posted, asked = ("force", "auto_subscribe"), ("detail", "history", "interactive")
    row = Operation
    return [
        row(
            "images_list", "GET", every, images.listing, "listImages", booleans=("history",), choices=_CHOICES
        ),
        row("image_add", "POST", every, images.add, "createImage", body=schemas.IMAGE, booleans=posted),
        row(
            *("images_delete", "DELETE", every, images.delete_many, "deleteImage"),
            booleans=("force",),
            needed=("image_digests",),
        ),
        row(
            *("check", "GET", f"{one}/check", checks.check, "getImageEvaluation"),
            needed=("tag",),
            booleans=asked,
        ),
        row("image_get", "GET", one, images.get, "getImage"),
        row("image_delete", "DELETE", one, images.delete, "deleteImage", booleans=("force",)),
    ]


def _policies() -> list[Operation]:
    every, one = "/v2/policies", "/v2/policies/{policy_id}"
    detailed, active = ("detail",), ("active",)
    record = schemas.POLICY_RECORD
    row = Operation
    return [
        row("policies_list", "GET", every, policies.listing, "listPolicies", booleans=detailed),
        row("policy_add", "POST", every, policies.add, "createPolicy", body=schemas.POLICY),
        row("policy_get", "GET", one, policies.get, "getPolicy", booleans=detailed),
        row("policy_update", "PUT", one, policies.update, "updatePolicy", body=record, booleans=active),
        row("policy_delete", "DELETE", one, policies.delete, "deletePolicy"),
    ]


def _subscriptions() -> list[Operation]:
    every, one = "/v2/subscriptions", "/v2/subscriptions/{subscription_id}"
    new, changed = schemas.SUBSCRIPTION, schemas.SUBSCRIPTION_UPDATE
    row = Operation
    return [
        row("subscriptions_list", "GET", every, subscriptions.listing, "listSubscriptions"),
        row("subscription_add", "POST", every, subscriptions.add, "createSubscription", body=new),
        row("subscription_get", "GET", one, subscriptions.get, "getSubscription"),
        row("subscription_update", "PUT", one, subscriptions.update, "updateSubscription", body=changed),
        row("subscription_delete", "DELETE", one, subscriptions.delete, "deleteSubscription"),
    ]


def _registries() -> list[Operation]:
    every, one = "/v2/registries", "/v2/registries/{registry}"
    body, checked = schemas.REGISTRY, ("validate",)
    row = Operation
    return [
        row("registries_list", "GET", every, registries.listing, "listRegistries"),
        row("registry_add", "POST", every, registries.add, "createRegistry", body=body, booleans=checked),
        row("registry_get", "GET", one, registries.get, "getRegistry"),
        row("registry_update", "PUT", one, registries.update, "updateRegistry", body=body, booleans=checked),
        row("registry_delete", "DELETE", one, registries.delete, "deleteRegistry"),
    ]


def _endpoints() -> list[Operation]:
    """Their names begin with `endpoint`; the engine has no such thing."""
    every = "/v2/notifications/endpoints"
    all_configured = f"{every}/webhook/configurations"
    one = f"{all_configured}/{{configuration}}"
    thing = _CONFIGURATION
    webhook, put = schemas.WEBHOOK, "updateNotificationEndpoint"
    row = Operation
    return [
        row("endpoints_list", "GET", every, endpoints.listing, "listNotificationEndpoints"),
        row(
            "endpoint_switch", "PUT", f"{every}/{{endpoint}}", endpoints.switch, put, SYSTEM, schemas.ENABLED
        ),
        row("endpoint_configurations_list", "GET", all_configured, endpoints.configurations, f"list{thing}s"),
        row(
            "endpoint_configuration_add",
            "POST",
            all_configured,
            endpoints.add,
            f"create{thing}",
            body=webhook,
        ),
        row("endpoint_configuration_get", "GET", one, endpoints.get, f"get{thing}"),
        row("endpoint_configuration_update", "PUT", one, endpoints.update, f"update{thing}", body=webhook),
        row("endpoint_configuration_delete", "DELETE", one, endpoints.delete, f"delete{thing}"),
    ]


def _selectors() -> list[Operation]:
    every = "/v2/notifications/endpoints/webhook/configurations/{configuration}/selectors"
    one = f"{every}/{{selector}}"
    thing, selected = _CONFIGURATION, schemas.SELECTOR
    row = Operation
    return [
        row("endpoint_selectors_list", "GET", every, endpoints.selectors, f"list{thing}s"),
        row(
            *("endpoint_selectors_list", "GET", "/v2/notifications/selectors", endpoints.all_selectors),
            f"list{thing}s",
        ),
        row(
            "endpoint_selector_add",
            "POST",
            every,
            endpoints.add_selector,
            f"create{thing}",
            body=selected,
        ),
        row("endpoint_selector_get", "GET", one, endpoints.get_selector, f"get{thing}"),
        row(
            "endpoint_selector_update",
            "PUT",
            one,
            endpoints.update_selector,
            f"update{thing}",
            body=selected,
        ),
        row("endpoint_selector_delete", "DELETE", one, endpoints.delete_selector, f"delete{thing}"),
    ]
