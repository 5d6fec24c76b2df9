"""What can be wrong with the webhook configurations. Pure: what is registered, and the cluster's namespaces, in; findings out."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from services.cli.doctor.findings import Finding, Severity
from services.cli.status_cluster import ENDPOINT
from services.cli.webhooks_cluster import PART_OF
from services.cli.webhooks_trust import bundle_of
from shared.objects import ObjectMeta
from shared.policies import LabelSelector, matches

CHECK = "registration"

SYSTEM = ("kube-system", "kube-node-lease", "kube-public")
"""Namespaces in which Pods must start that everything else needs (DESIGN: full cluster restart)."""

SOON = timedelta(days=7)
SHORTEST = 3
"""Seconds the API server must wait for an answer: a gateway needs some of it to wait for a scan."""

REGISTER = "run `helm upgrade` with the values of the release, or `moorgate webhooks apply`"
FULL = "*"


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """What the API server asks about."""

    resources: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()


class Service(msgspec.Struct, frozen=True):
    """Where gateways are."""

    namespace: str = ""
    name: str = ""
    path: str = ""


class Client(msgspec.Struct, frozen=True, rename="camel"):
    """How they are called."""

    url: str = ""
    service: Service | None = None
    ca_bundle: bytes = b""

    @property
    def target(self) -> str:
        """One text for one place."""
        return (
            f"{self.service.namespace}/{self.service.name}"
            if self.service
            else self.url.partition(ENDPOINT)[0]
        )


class Webhook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook, with the API server's defaults."""

    name: str
    client_config: Client = Client()
    failure_policy: str = "Fail"
    timeout_seconds: int = 10
    namespace_selector: LabelSelector = LabelSelector()
    rules: tuple[Rule, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether gateways serve it."""
        client = self.client_config
        return ENDPOINT in client.url + (client.service.path if client.service else "")

    @property
    def fails_closed(self) -> bool:
        """Whether nothing gets in while nobody answers."""
        return self.failure_policy == "Fail"

    def asks_about(self, resource: str, operation: str) -> bool:
        """Whether a rule names it."""
        return any(
            {resource, FULL, f"{resource.partition('/')[0]}/*", "*/*"} & set(rule.resources)
            and {operation, FULL} & set(rule.operations)
            for rule in self.rules
        )


class Configuration(msgspec.Struct, frozen=True):
    """One ValidatingWebhookConfiguration."""

    metadata: ObjectMeta
    webhooks: tuple[Webhook, ...] = ()

    @property
    def is_ours(self) -> bool:
        """By its label, or by where it points."""
        name, _, value = PART_OF.partition("=")
        return self.metadata.labels.get(name) == value or any(each.is_ours for each in self.webhooks)


def findings(
    configurations: Iterable[Configuration],
    namespaces: Mapping[str, Mapping[str, str]],
    own: str,
    now: datetime,
) -> list[Finding]:
    """All of them. `namespaces`: labels by name; `own`: where Moorgate runs."""
    ours = [each for each in configurations if each.is_ours]
    webhooks = [(each.metadata.name, webhook) for each in ours for webhook in each.webhooks]
    for_pods = [each for _, each in webhooks if each.asks_about("pods", "CREATE")]
    if not for_pods:
        return [_error("no webhook asks gateways about new Pods: they are admitted unseen", REGISTER)]
    found = list(_coverage(for_pods)) + list(_targets(webhooks))
    needed = [name for name in (own, *SYSTEM) if name in namespaces]
    for configuration, webhook in webhooks:
        found += _one(configuration, webhook, {name: namespaces[name] for name in needed}, now)
    return found


def _coverage(for_pods: list[Webhook]) -> Iterator[Finding]:
    if not any(each.fails_closed for each in for_pods):
        yield _warning(
            "the webhook for Pods has failurePolicy Ignore: while no gateway answers, Pods are admitted unseen",
            "set webhooks.failurePolicy=Fail once nothing more is refused that must run (docs/operating.md)",
        )
    for resource, operation in (("pods", "UPDATE"), ("pods/ephemeralcontainers", "UPDATE")):
        if not any(each.asks_about(resource, operation) for each in for_pods):
            yield _warning(
                f"nobody is asked about {operation} of {resource}: an image can be exchanged there", REGISTER
            )


def _targets(webhooks: list[tuple[str, Webhook]]) -> Iterator[Finding]:
    targets = {webhook.client_config.target for _, webhook in webhooks}
    if len(targets) > 1:
        names = ", ".join(sorted({name for name, _ in webhooks}))
        yield _warning(
            f"two installations are asked about the same Pods: {', '.join(sorted(targets))} (by {names})",
            "uninstall one; where it is gone, `kubectl delete validatingwebhookconfiguration` what it left",
        )


def _one(
    configuration: str, webhook: Webhook, needed: Mapping[str, Mapping[str, str]], now: datetime
) -> Iterator[Finding]:
    where = f"{configuration}/{webhook.name}"
    until = max(
        (each.not_valid_after_utc for each in bundle_of(webhook.client_config.ca_bundle, now)), default=None
    )
    effect = "every Pod it is asked about is refused" if webhook.fails_closed else "nobody is asked"
    if until is None:
        yield _error(
            f"{where}: caBundle has no authority that is still valid: {effect}", "see docs/certificates.md"
        )
    elif until - now < SOON:
        yield _warning(f"{where}: its last authority expires on {until:%Y-%m-%d}", "see docs/certificates.md")
    if webhook.timeout_seconds < SHORTEST and webhook.fails_closed:
        yield _warning(
            f"{where}: timeoutSeconds is {webhook.timeout_seconds}: no gateway can wait for a scan in it",
            f"set webhooks.timeoutSeconds to {SHORTEST} or more",
        )
    held = sorted(name for name, labels in needed.items() if matches(webhook.namespace_selector, labels))
    if webhook.fails_closed and held:
        yield _error(
            f"{where}: fails closed in {', '.join(held)}: after a full restart neither gateways nor what they need can start",
            f"{REGISTER}: the chart excludes them; by hand, exclude them in its namespaceSelector",
        )


def _error(what: str, mend: str) -> Finding:
    return Finding(CHECK, Severity.ERROR, what, mend)


def _warning(what: str, mend: str) -> Finding:
    return Finding(CHECK, Severity.WARNING, what, mend)
