"""What the engine remembers of an image, a policy bundle and a subscription, and how each is shown.

These are the rows of the real server's catalog. Each belongs to one account; the same image in two accounts is two records.
"""

import base64
import hashlib
from dataclasses import dataclass, field

from deploy.dev.anchore.catalogue import Image
from deploy.dev.anchore.references import Reference
from deploy.dev.anchore.wire import JsonObject, optional_seconds, whole_seconds

NOT_ANALYZED = "not_analyzed"
ANALYZING = "analyzing"
ANALYZED = "analyzed"
FAILED = "analysis_failed"

ACTIVE = "active"
DELETING = "deleting"


@dataclass(kw_only=True)
class TagRecord:
    """One tag under which an image is known, an entry of `image_detail`."""

    reference: Reference
    created: float
    updated: float
    detected: float
    dockerfile: str | None = None


@dataclass(kw_only=True)
class ImageRecord:
    """One image of one account."""

    account: str
    image: Image
    created: float
    updated: float
    analyzed: float | None = None
    status: str = NOT_ANALYZED
    image_status: str = ACTIVE
    deleted: float | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    given_dockerfile: str | None = None
    """The caller's Dockerfile, which the engine believes over the image's own history."""
    was_analyzed: bool = False
    """Whether an analysis ever finished: its findings stay in the record while it is analysed again."""
    tags: list[TagRecord] = field(default_factory=list)

    @property
    def dockerfile(self) -> str:
        """What the gate `dockerfile` looks at."""
        return self.image.content.dockerfile if self.given_dockerfile is None else self.given_dockerfile

    @property
    def dockerfile_mode(self) -> str:
        """Where that comes from."""
        return "Guessed" if self.given_dockerfile is None else "Actual"

    def tag(self, fulltag: str) -> TagRecord | None:
        """The entry of this tag."""
        return next((tag for tag in self.tags if tag.reference.fulltag == fulltag), None)

    def is_called(self, digest: str) -> bool:
        """Whether the digest is this image's own or its manifest list's."""
        return digest in {self.image.digest, self.image.list_digest}

    def show(self) -> JsonObject:
        """The record as GET /images answers it."""
        return {
            "analysis_status": self.status,
            "analyzed_at": optional_seconds(self.analyzed),
            "annotations": self.annotations,
            "created_at": whole_seconds(self.created),
            "imageDigest": self.image.digest,
            "image_content": {"metadata": self._metadata()},
            "image_detail": [self._show_tag(tag) for tag in self.tags],
            "image_status": self.image_status,
            "image_type": "docker",
            "last_updated": whole_seconds(self.updated),
            "parentDigest": self.image.list_digest,
            "userId": self.account,
        }

    def summarize(self) -> list[JsonObject]:
        """One line a tag, as GET /summaries/imagetags answers them."""
        return [
            {
                "analysis_status": self.status,
                "analyzed_at": None if self.analyzed is None else int(self.analyzed),
                "created_at": int(tag.created),
                "fulltag": tag.reference.fulltag,
                "imageDigest": self.image.digest,
                "imageId": self.image.image_id,
                "image_status": self.image_status,
                "parentDigest": self.image.list_digest,
                "tag_detected_at": int(tag.detected),
            }
            for tag in self.tags
        ]

    def _metadata(self) -> JsonObject:
        known = self.was_analyzed
        content = self.image.content
        return {
            "arch": content.arch if known else None,
            "distro": content.distro if known else None,
            "distro_version": content.distro_version if known else None,
            "dockerfile_mode": self.dockerfile_mode if known else None,
            "image_size": content.image_size if known else None,
            "layer_count": content.layer_count if known else None,
        }

    def _show_tag(self, tag: TagRecord) -> JsonObject:
        reference = tag.reference
        dockerfile = None if tag.dockerfile is None else base64.b64encode(tag.dockerfile.encode()).decode()
        return {
            "created_at": whole_seconds(tag.created),
            "digest": self.image.digest,
            "dockerfile": dockerfile,
            "fulldigest": f"{reference.registry}/{reference.repository}@{self.image.digest}",
            "fulltag": reference.fulltag,
            "imageDigest": self.image.digest,
            "imageId": self.image.image_id,
            "last_updated": whole_seconds(tag.updated),
            "registry": reference.registry,
            "repo": reference.repository,
            "tag": reference.tag,
            "tag_detected_at": whole_seconds(tag.detected),
            "userId": self.account,
        }


@dataclass(kw_only=True)
class PolicyRecord:
    """One policy bundle of one account."""

    account: str
    bundle: JsonObject
    active: bool
    created: float
    updated: float
    source: str = "local"

    @property
    def policy_id(self) -> str:
        """The bundle's own id."""
        return str(self.bundle["id"])

    def show(self) -> JsonObject:
        """Without the bundle."""
        shown: JsonObject = {
            "active": self.active,
            "created_at": whole_seconds(self.created),
            "last_updated": whole_seconds(self.updated),
            "name": self.bundle.get("name", ""),
            "policyId": self.policy_id,
            "policy_source": self.source,
            "userId": self.account,
        }
        if "description" in self.bundle:
            shown["description"] = self.bundle["description"]
        return shown


@dataclass(kw_only=True)
class Subscription:
    """The wish to be told of one kind of change of one tag."""

    account: str
    key: str
    kind: str
    active: bool
    created: float
    updated: float
    value: str | None = None

    @property
    def subscription_id(self) -> str:
        """Not random: the same account, tag and kind have the same id at every engine."""
        return subscription_id(self.account, self.key, self.kind)

    def show(self) -> JsonObject:
        """As GET /subscriptions answers it."""
        return {
            "active": self.active,
            "created_at": int(self.created),
            "last_updated": int(self.updated),
            "subscription_id": self.subscription_id,
            "subscription_key": self.key,
            "subscription_type": self.kind,
            "subscription_value": self.value,
            "userId": self.account,
        }


def subscription_id(account: str, key: str, kind: str) -> str:
    """A subscription's id, whether or not there is one."""
    return hashlib.md5(f"{account}+{key}+{kind}".encode(), usedforsecurity=False).hexdigest()
