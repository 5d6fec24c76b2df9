"""Accounts, their users, and what each account owns.

Images, bundles, registries, subscriptions and evaluations are per account; nothing is seen across. The real server makes
such a space for any name that an admin puts into `x-anchore-account`, whether or not that account exists.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.dev.anchore.evaluation.bundles import Judgement
from deploy.dev.anchore.records import ImageRecord, PolicyRecord, Subscription, TagRecord
from deploy.dev.anchore.wire import JsonObject, whole_seconds

ADMIN = "admin"
ENABLED = "enabled"


@dataclass(kw_only=True)
class Account:
    """A tenant of the engine."""

    name: str
    email: str | None
    created: float
    updated: float
    state: str = ENABLED

    @property
    def is_admin(self) -> bool:
        """The one account whose users may do everything."""
        return self.name == ADMIN

    def show(self) -> JsonObject:
        """As GET /accounts/… and GET …/users/… answer it."""
        return {
            "created_at": whole_seconds(self.created),
            "email": self.email,
            "last_updated": whole_seconds(self.updated),
            "name": self.name,
            "state": self.state,
            "type": "admin" if self.is_admin else "user",
        }


@dataclass(kw_only=True)
class User:
    """Somebody who may log in; belongs to one account."""

    name: str
    account: str
    password: str
    created: float
    deleted: float | None = None
    password_created: float = 0.0

    def show(self) -> JsonObject:
        """As GET /accounts/… and GET …/users/… answer it."""
        return {
            "created_at": whole_seconds(self.created),
            "last_updated": whole_seconds(self.created),
            "source": None,
            "type": "native",
            "username": self.name,
        }

    def show_credentials(self) -> list[JsonObject]:
        """Masked, as long as the password."""
        created = whole_seconds(self.password_created or self.created)
        return [{"created_at": created, "type": "password", "value": "*" * len(self.password)}]


class Result(NamedTuple):
    """What an evaluation came to, and when it was computed."""

    judgement: Judgement
    shown: JsonObject
    """As API v1 shows it; kept, since load tests ask for it again and again."""


@dataclass(kw_only=True)
class Evaluation:
    """One line of a tag's history of checks."""

    policy_id: str
    last: float
    result: Result


@dataclass(kw_only=True)
class Space:
    """What one account owns."""

    account: str
    images: dict[str, ImageRecord] = field(default_factory=dict)
    tagged: dict[str, list[str]] = field(default_factory=dict)
    """The digests that each tag was ever seen on, in the order of their first appearance."""
    policies: dict[str, PolicyRecord] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    registries: dict[str, JsonObject] = field(default_factory=dict)
    history: dict[tuple[str, str, str, str], Evaluation] = field(default_factory=dict)
    """By digest, tag, bundle and final action: the newest is moved on by each check."""
    computed: dict[tuple[str, ...], Result] = field(default_factory=dict)
    """Results by everything they depend on, as the policy engine caches them."""
    events: list[JsonObject] = field(default_factory=list)

    def image(self, digest: str) -> ImageRecord | None:
        """By its own digest or its manifest list's."""
        direct = self.images.get(digest)
        if direct is not None:
            return direct
        return next((record for record in self.images.values() if record.is_called(digest)), None)

    def image_by_id(self, image_id: str) -> ImageRecord | None:
        """By the digest of its configuration."""
        return next((record for record in self.images.values() if record.image.image_id == image_id), None)

    def tag_image(self, record: ImageRecord, entry: TagRecord) -> None:
        """The image is known under this tag too; an older entry of the same tag is replaced."""
        record.tags = [*(tag for tag in record.tags if tag.reference != entry.reference), entry]
        digests = self.tagged.setdefault(entry.reference.fulltag, [])
        if record.image.digest not in digests:
            digests.append(record.image.digest)

    def newest_of(self, fulltag: str) -> list[ImageRecord]:
        """All images that ever had the tag, the one it was last seen on first."""
        records = [self.images[digest] for digest in self.tagged.get(fulltag, []) if digest in self.images]
        found = [
            (tag.detected, order, record)
            for order, record in enumerate(records)
            if (tag := record.tag(fulltag))
        ]
        return [record for _, _, record in sorted(found, key=lambda item: item[:2], reverse=True)]

    def active_policy(self) -> PolicyRecord | None:
        """None after a POST under the active bundle's id."""
        return next((policy for policy in self.policies.values() if policy.active), None)

    def keep_policy(self, policy: PolicyRecord) -> None:
        """A changed row moves to the end, as in the real server's lists."""
        self.policies.pop(policy.policy_id, None)
        self.policies[policy.policy_id] = policy


@dataclass
class Directory:
    """All accounts, users and spaces."""

    accounts: dict[str, Account] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)

    def space(self, account: str) -> Space:
        """Made when first asked for."""
        if account not in self.spaces:
            self.spaces[account] = Space(account=account)
        return self.spaces[account]

    def users_of(self, account: str) -> list[User]:
        """Without the deleted ones."""
        return [user for user in self.users.values() if user.account == account and user.deleted is None]
