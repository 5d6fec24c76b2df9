"""The table of all operations that are simulated, those of API v1 here and of API v2 in `operations_v2`. A route that is not here is 404, as any unknown one.

Left out, for nobody here needs them: archives, imports, repositories, oauth, SBOMs, retrieved files, queries by package, and
the long static answers (policy_spec, event_types).
"""

from collections.abc import Collection

from deploy.dev.anchore import operations_v2, schemas
from deploy.dev.anchore.api import (
    accounts,
    checks,
    events,
    findings,
    images,
    policies,
    registries,
    submission,
    subscriptions,
    system,
)
from deploy.dev.anchore.calls import SYSTEM, Operation, Operations

APIS = ("v1", "v2")

_STATES = ("not_analyzed", "analyzed", "analyzing", "analysis_failed")
_STATUS = (("analysis_status", _STATES, "Filter by analysis_status value on the record."),)


def table(apis: Collection[str] = APIS) -> Operations:
    """Earlier rows win, so fixed paths stand before patterns. A path of an API that isn't served is an unknown one."""
    if not apis or not set(apis) <= set(APIS):
        raise ValueError(f"apis must be some of {APIS}, not {tuple(apis)}")
    rows = _rows() if "v1" in apis else []
    return Operations([*rows, *(operations_v2.rows() if "v2" in apis else [])])


def _rows() -> list[Operation]:
    return [
        *_system(),
        *_accounts(),
        *_images(),
        *_findings(),
        *_policies(),
        *_subscriptions(),
        *_registries(),
        *_events(),
    ]


def _system() -> list[Operation]:
    base = "/v1/system"
    row = Operation
    return [
        row("ping", "GET", "/(v1/?)?", system.ping, is_public=True),
        row("health", "GET", "/(v1/)?health", system.health, is_public=True),
        row("version", "GET", "/(v1/)?version", system.version, is_public=True),
        row("swagger", "GET", "/(v1/)?swagger.json", system.swagger, is_public=True),
        row("status", "GET", "/v1/status", system.status),
        row("system", "GET", base, system.system),
        row("services", "GET", f"{base}/services", system.services, "listServices", SYSTEM),
        row("services", "GET", f"{base}/services/{{service}}", system.service, "getService", SYSTEM),
        row("error_codes", "GET", f"{base}/error_codes", system.error_codes),
        row("feeds", "GET", f"{base}/feeds", system.feeds, "listFeeds", SYSTEM),
        row(
            "feeds_sync",
            "POST",
            f"{base}/feeds",
            system.sync_feeds,
            "updateFeeds",
            SYSTEM,
            booleans=("flush", "sync"),
        ),
        row("webhook_test", "POST", f"{base}/webhooks/{{kind}}/test", system.webhook_test),
    ]


def _accounts() -> list[Operation]:
    every, one = "/v1/accounts", "/v1/accounts/{account}"
    users, user = f"{one}/users", f"{one}/users/{{username}}"
    passwords, own = f"{user}/credentials", "/v1/user/credentials"
    row = Operation
    return [
        row("accounts_list", "GET", every, accounts.listing, "listAccounts", SYSTEM),
        row("account_add", "POST", every, accounts.add, "createAccount", SYSTEM, body=schemas.ACCOUNT),
        row("account_get", "GET", one, accounts.get, "getAccount", SYSTEM),
        row("account_delete", "DELETE", one, accounts.delete, "deleteAccount", SYSTEM),
        row(
            "account_state",
            "PUT",
            f"{one}/state",
            accounts.set_state,
            "updateAccount",
            SYSTEM,
            schemas.ACCOUNT_STATE,
        ),
        row("users_list", "GET", users, accounts.users, "listUsers", SYSTEM),
        row("user_add", "POST", users, accounts.add_user, "createUser", SYSTEM, schemas.USER),
        row("user_get", "GET", user, accounts.get_user, "getUser", SYSTEM),
        row("user_delete", "DELETE", user, accounts.delete_user, "deleteUser", SYSTEM),
        row("credentials_list", "GET", passwords, accounts.credentials, "getUser", SYSTEM),
        row(
            "credential_set",
            "POST",
            passwords,
            accounts.set_credential,
            "updateUser",
            SYSTEM,
            schemas.CREDENTIAL,
        ),
        row("self_account", "GET", "/v1/account", accounts.self_account),
        row("self_user", "GET", "/v1/user", accounts.self_user),
        row("self_credentials", "GET", own, accounts.self_credentials),
        row("self_credential_set", "POST", own, accounts.set_self_credential, body=schemas.CREDENTIAL),
    ]


def _images() -> list[Operation]:
    every, by_id, one = "/v1/images", "/v1/images/by_id/{image_id}", "/v1/images/{digest}"
    posted, listed, forced = ("force", "autosubscribe"), ("history",), ("force",)
    named = ("imageDigests",)
    row = Operation
    return [
        row("images_list", "GET", every, images.listing, "listImages", booleans=listed, choices=_STATUS),
        row("image_add", "POST", every, submission.add, "createImage", body=schemas.IMAGE, booleans=posted),
        row(
            "images_delete", "DELETE", every, images.delete_many, "deleteImage", booleans=forced, needed=named
        ),
        row("summaries", "GET", "/v1/summaries/imagetags", images.summaries, "listImages"),
        row("image_delete", "DELETE", by_id, images.delete_by_id, "deleteImage", booleans=forced),
        row("image_delete", "DELETE", one, images.delete, "deleteImage", booleans=forced),
    ]


def _findings() -> list[Operation]:
    by_id, by_digest = "/v1/images/by_id/{image_id}", "/v1/images/{digest}"
    query = "/v1/query"
    row = Operation
    return [
        *_one_image(by_id),
        *_one_image(by_digest),
        row(
            "query_vulnerabilities",
            "GET",
            f"{query}/vulnerabilities",
            findings.query_vulnerabilities,
            needed=("id",),
        ),
        row(
            *("query_images", "GET", f"{query}/images/by_vulnerability", findings.query_images, "listImages"),
            needed=("vulnerability_id",),
            booleans=("vendor_only",),
        ),
    ]


def _one_image(base: str) -> list[Operation]:
    asked = ("detail", "history", "interactive")
    refreshed = ("force_refresh", "vendor_only")
    row = Operation
    return [
        row(
            "check",
            "GET",
            f"{base}/check",
            checks.check,
            "getImageEvaluation",
            needed=("tag",),
            booleans=asked,
        ),
        row("image_get", "GET", base, images.get, "getImage"),
        row("vulnerability_types", "GET", f"{base}/vuln", findings.vulnerability_types, "getImage"),
        row(
            *("vulnerabilities", "GET", f"{base}/vuln/{{kind}}", findings.vulnerabilities, "getImage"),
            booleans=refreshed,
        ),
        row("content_types", "GET", f"{base}/content", findings.content_types, "getImage"),
        row("content", "GET", f"{base}/content/{{kind}}", findings.content, "getImage"),
        row("metadata_types", "GET", f"{base}/metadata", findings.metadata_types, "getImage"),
        row("metadata", "GET", f"{base}/metadata/{{kind}}", findings.metadata, "getImage"),
    ]


def _policies() -> list[Operation]:
    every, one = "/v1/policies", "/v1/policies/{policy_id}"
    detailed = ("detail",)
    row = Operation
    return [
        row("policies_list", "GET", every, policies.listing, "listPolicies", booleans=detailed),
        row("policy_add", "POST", every, policies.add, "createPolicy", body=schemas.BUNDLE),
        row("policy_get", "GET", one, policies.get, "getPolicy", booleans=detailed),
        row(
            *("policy_update", "PUT", one, policies.update, "updatePolicy"),
            body=schemas.POLICY_RECORD,
            booleans=("active",),
        ),
        row("policy_delete", "DELETE", one, policies.delete, "deletePolicy"),
    ]


def _subscriptions() -> list[Operation]:
    every, one = "/v1/subscriptions", "/v1/subscriptions/{subscription_id}"
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
    every, one = "/v1/registries", "/v1/registries/{registry}"
    body, checked = schemas.REGISTRY, ("validate",)
    row = Operation
    return [
        row("registries_list", "GET", every, registries.listing, "listRegistries"),
        row("registry_add", "POST", every, registries.add, "createRegistry", body=body, booleans=checked),
        row("registry_get", "GET", one, registries.get, "getRegistry"),
        row("registry_update", "PUT", one, registries.update, "updateRegistry", body=body, booleans=checked),
        row("registry_delete", "DELETE", one, registries.delete, "deleteRegistry"),
    ]


def _events() -> list[Operation]:
    every, one = "/v1/events", "/v1/events/{event_id}"
    row = Operation
    return [
        row("events_list", "GET", every, events.listing, "listEvents", integers=("page", "limit")),
        row("events_delete", "DELETE", every, events.delete_many, "deleteEvents"),
        row("event_get", "GET", one, events.get, "getEvent"),
        row("event_delete", "DELETE", one, events.delete, "getEvent"),
    ]
