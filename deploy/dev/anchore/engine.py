"""The engine's whole state, and the few things that several operations do to it.

Operations (the package `api`) read and change this; the HTTP server and the door for tests stand around it. Everything runs
on one event loop without awaiting in between, so there are no locks.
"""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path

from deploy.dev.anchore.accounts import ADMIN, Account, Directory, Space, User
from deploy.dev.anchore.analyzer import Analyzer
from deploy.dev.anchore.catalogue import CatalogueFile, Registry, Vulnerability, load
from deploy.dev.anchore.clock import Clock
from deploy.dev.anchore.feeds import Feeds
from deploy.dev.anchore.notifications import Notification, analysis_update
from deploy.dev.anchore.outbox import Outbox
from deploy.dev.anchore.records import ANALYZED, ImageRecord, PolicyRecord, Subscription, subscription_id
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.wire import JsonObject, microseconds

DEFAULT_BUNDLE_FILE = Path(__file__).with_name("default_bundle.json")

SUBSCRIPTION_TYPES = ("policy_eval", "tag_update", "vuln_update", "analysis_update")

SERVICES = {"apiext": 8228, "simplequeue": 8230, "analyzer": 8231, "catalog": 8229, "policy_engine": 8232}
"""The engine's five services and the ports that its error messages name."""


class Engine:
    """One Anchore Engine with one admin account."""

    def __init__(
        self, settings: Settings, catalogue: CatalogueFile | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        file = catalogue or load(settings.catalogue)
        self.registry = Registry(file)
        self.feeds = Feeds(file.feeds)
        self.directory = Directory()
        self.analyzer = Analyzer(settings, self.clock, self._analysis_finished)
        self.outbox = Outbox(settings)
        self.down: set[str] = set()
        """Services that don't answer: policy_engine, catalog, simplequeue."""
        self.lingering: list[ImageRecord] = []
        """Deleted images that the garbage collector hasn't removed yet."""
        self.vulnerabilities: dict[str, tuple[Vulnerability, ...]] = {}
        """Overrides by image digest, as a new feed would bring them."""
        if settings.feeds_synced:
            self.feeds.sync(self.clock.now())
        self.add_account(ADMIN, "admin@myanchore")
        self.add_user(ADMIN, ADMIN, settings.admin_password)

    def add_account(self, name: str, email: str | None) -> Account:
        """A new account has a copy of the default bundle and nothing else."""
        now = self.clock.now()
        account = Account(name=name, email=email, created=now, updated=now)
        self.directory.accounts[name] = account
        bundle = json.loads(DEFAULT_BUNDLE_FILE.read_bytes())
        source = "true" if name == ADMIN else "local"
        policy = PolicyRecord(
            account=name, bundle=bundle, active=True, created=now, updated=now, source=source
        )
        self.directory.space(name).keep_policy(policy)
        return account

    def add_user(self, account: str, name: str, password: str) -> User:
        """The account is there."""
        user = User(name=name, account=account, password=password, created=self.clock.now())
        self.directory.users[name] = user
        return user

    def catch_up(self) -> None:
        """Let happen what was due by now: analyses, and the end of deleted images."""
        self.analyzer.catch_up()
        now = self.clock.now()
        for record in list(self.lingering):
            if record.deleted is None:  # added again in between
                self.lingering.remove(record)
            elif record.deleted + self.settings.image_gc_seconds <= now:
                self.lingering.remove(record)
                self.directory.space(record.account).images.pop(record.image.digest, None)

    def findings(self, record: ImageRecord) -> tuple[Vulnerability, ...]:
        """What the feeds let be seen of the image's vulnerabilities."""
        content = record.image.content
        known = self.vulnerabilities.get(record.image.digest, content.vulnerabilities)
        has_feed = self.feeds.synced_at(f"{content.distro}:{content.distro_version}") is not None
        return tuple(finding for finding in known if has_feed or finding.kind == "non-os")

    def subscribe(self, space: Space, fulltag: str, active: Iterable[str]) -> None:
        """The four subscriptions that every added tag gets, where they are not there yet."""
        now = self.clock.now()
        wanted = set(active)
        for kind in SUBSCRIPTION_TYPES:
            made = Subscription(
                account=space.account, key=fulltag, kind=kind, active=kind in wanted, created=now, updated=now
            )
            present = space.subscriptions.setdefault(made.subscription_id, made)
            if kind in wanted and not present.active:
                present.active, present.updated = True, now

    def is_watched(self, space: Space, tag: str, kind: str) -> bool:
        """Whether somebody is to be told of it: there is a receiver, and the tag's subscription is active."""
        if not self.outbox.is_read:
            return False
        found = space.subscriptions.get(subscription_id(space.account, tag, kind))
        return found is not None and found.active

    def notify(self, account: str, kind: str, payload: JsonObject) -> int:
        """Put a notification into the outbox, for the next run; how many receivers it is for."""
        known = self.directory.accounts.get(account)
        now = self.clock.now()
        notification = Notification(
            kind=kind,
            account=account,
            email=known.email if known else None,
            payload=payload,
            created=now,
            expires=now + self.settings.notification_retry_timeout,
        )
        return self.outbox.put(notification)

    def record_event(
        self, account: str, kind: str, resource: tuple[str, str | None], **event: object
    ) -> None:
        """Newest last; `event` carries level, message, details and the service it comes from."""
        now = self.clock.now()
        service = str(event.pop("service", "catalog"))
        space = self.directory.space(account)
        shown: JsonObject = {
            "details": {},
            "level": "info",
            **event,
            "resource": {"id": resource[1], "type": resource[0], "user_id": account},
            "source": {
                "base_url": f"http://127.0.0.1:{SERVICES[service]}",
                "hostid": "anchore-quickstart",
                "request_id": None,
                "servicename": service,
            },
            "timestamp": microseconds(now),
            "type": kind,
        }
        space.events.append(
            {"created_at": microseconds(now), "event": shown, "generated_uuid": uuid.uuid4().hex}
        )

    def _analysis_finished(self, record: ImageRecord, _moment: float) -> None:
        tags = [tag.reference.fulltag for tag in record.tags]
        if record.status == ANALYZED:
            self._tell_analysis(record, tags)
            state = {"annotations": record.annotations, "imageDigest": record.image.digest}
            details = {
                "annotations": record.annotations,
                "curr_eval": {"analysis_status": "analyzed", **state},
                "last_eval": {"analysis_status": "analyzing", **state},
                "subscription_type": "analysis_update",
            }
            for tag in tags:
                self.record_event(
                    record.account,
                    "user.image.analysis.completed",
                    ("image_tag", tag),
                    service="analyzer",
                    message="Image analysis available",
                    details=details,
                )
            return
        cause = "failed to download, unpack, analyze, and generate image export"
        failure = {
            "AnalysisError": {
                "cause": "layer not found",
                "msg": cause,
                "pull_string": tags[0],
                "tag": tags[0],
            }
        }
        told: JsonObject = {"service": "analyzer", "level": "error", "message": "Failed to analyze image"}
        self.record_event(
            record.account,
            "system.image_analysis.failed",
            ("image_digest", record.image.digest),
            details=failure,
            **told,
        )
        for tag in tags:
            self.record_event(
                record.account,
                "user.image.analysis.failed",
                ("image_tag", tag),
                details={"msg": cause},
                **told,
            )

    def _tell_analysis(self, record: ImageRecord, tags: list[str]) -> None:
        space = self.directory.space(record.account)
        for tag in tags:
            if self.is_watched(space, tag, "analysis_update"):
                self.notify(record.account, "analysis_update", analysis_update(record, tag))
