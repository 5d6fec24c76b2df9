"""What tests change and read in the simulator's world: images and tags, findings, analyses, faults, time, and counters.

Nothing of this is Anchore's API. `Simulator` has these as methods; `door` offers the same over HTTP.
"""

from deploy.dev.anchore import references
from deploy.dev.anchore.accounts import ADMIN
from deploy.dev.anchore.catalogue import (
    CatalogueFile,
    Content,
    Entry,
    Image,
    RegistryError,
    Vulnerability,
    make_image,
)
from deploy.dev.anchore.clock import Clock
from deploy.dev.anchore.counters import Counters
from deploy.dev.anchore.engine import Engine
from deploy.dev.anchore.examples import made_up
from deploy.dev.anchore.faults import Fault, Faults
from deploy.dev.anchore.notifications import KINDS, vuln_update
from deploy.dev.anchore.operations import table
from deploy.dev.anchore.records import ANALYZED, ImageRecord, TagRecord
from deploy.dev.anchore.server import Server
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.watcher import look_again
from deploy.dev.anchore.webhooks import Postman
from deploy.dev.anchore.wire import JsonObject


class World:
    """An engine, the registry it pulls from, and the server before it."""

    def __init__(
        self,
        settings: Settings | None = None,
        catalogue: CatalogueFile | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.engine = Engine(self.settings, catalogue, clock)
        self.postman = Postman(self.engine)
        self.server = Server(self.engine, table(self.settings.apis))

    @property
    def counters(self) -> Counters:
        """What was called."""
        return self.server.counters

    @property
    def faults(self) -> Faults:
        """What goes wrong, and how often yet."""
        return self.server.faults

    def calls(self, operation: str, image: str | None = None) -> int:
        """How often an operation was called; for one image by any tag or digest that the caller used."""
        if image is None:
            return self.counters.calls[operation]
        return self.counters.images[operation, image]

    def add_fault(self, fault: Fault) -> None:
        """Takes effect with the next call it fits."""
        self.faults.pending.append(fault)

    def set_latency(self, seconds: float, operation: str = "*") -> None:
        """Every answer of the operation comes so much later; * for all that have no latency of their own."""
        self.server.latency.seconds[operation] = seconds

    def set_curve(self, operation: str, curve: str | None) -> None:
        """The more calls of the operation are in hand, the longer each takes; None: no longer so. Raises LookupError."""
        self.server.latency.set_curve(operation, curve)

    def image(self, reference: str) -> Image:
        """What the registry says a reference names; raises LookupError."""
        try:
            return self.engine.registry.resolve(references.read(reference), self.engine.registry.unauthorized)
        except RegistryError as error:
            raise LookupError(f"{reference}: {error.said}") from error

    def add_image(self, reference: str, content: Content, *, multi_arch: bool = False) -> Image:
        """A new image in the registry."""
        return self.engine.registry.add(
            Entry(references=(reference,), content=content, multi_arch=multi_arch)
        )

    def push(self, reference: str, content: Content | None = None, *, image: Image | None = None) -> Image:
        """Move a tag: to a given image, or to a new one with this content (None: the content that it had)."""
        name = references.read(reference)
        if image is None:
            before = self.image(reference)
            kept = before.content if content is None else content
            is_list = before.list_digest != before.digest
            image = make_image(f"{name.name} after {before.digest}", kept, multi_arch=is_list)
        self.engine.registry.point(name, image)
        return image

    def set_vulnerabilities(self, reference: str, findings: tuple[Vulnerability, ...]) -> None:
        """As if a new feed had come: analysed images are judged by it at once, and subscribers told."""
        digest = self.image(reference).digest
        known = [record for space in self.engine.directory.spaces.values() if (record := space.image(digest))]
        before = [self.engine.findings(record) for record in known]
        self.engine.vulnerabilities[digest] = findings
        for record, former in zip(known, before, strict=True):
            self._tell_findings(record, former)

    def _tell_findings(self, record: ImageRecord, before: tuple[Vulnerability, ...]) -> None:
        space, now = self.engine.directory.space(record.account), self.engine.findings(record)
        for tag in (tag.reference.fulltag for tag in record.tags):
            if now != before and self.engine.is_watched(space, tag, "vuln_update"):
                self.engine.notify(record.account, "vuln_update", vuln_update(record, tag, before, now))

    def fail_analysis(self, reference: str, *, fails: bool = True) -> None:
        """From the next end of an analysis of this image on."""
        self.engine.analyzer.fails[self.image(reference).digest] = fails

    def set_analysis_seconds(self, seconds: float, reference: str | None = None) -> None:
        """For analyses that begin from now on; of one image, or of all without a time of their own."""
        if reference is None:
            self.engine.analyzer.seconds = seconds
        else:
            self.engine.analyzer.seconds_of[self.image(reference).digest] = seconds

    def preload(self, reference: str, account: str = ADMIN) -> Image:
        """Have the image analysed already, as if it had been added long ago. Counts no call."""
        image, space, now = (
            self.image(reference),
            self.engine.directory.space(account),
            self.engine.clock.now(),
        )
        name = references.read(reference)
        tag = name if name.tag else references.read(f"{name.registry}/{name.repository}:preloaded")
        entry = TagRecord(
            reference=tag, created=now, updated=now, detected=now, dockerfile=image.content.dockerfile
        )
        present = space.images.get(image.digest)
        record = present or ImageRecord(account=account, image=image, created=now, updated=now)
        if record.status != ANALYZED:
            self.engine.analyzer.forget(record)
            record.status, record.analyzed, record.was_analyzed = ANALYZED, now, True
        space.images[image.digest] = record
        if record.tag(tag.fulltag) is None:
            space.tag_image(record, entry)
        self.engine.subscribe(space, tag.fulltag, {"analysis_update"})
        return image

    def look_again(self) -> None:
        """Run the image watcher now: active tag_update subscriptions are compared with the registry."""
        look_again(self.engine)

    async def deliver(self) -> int:
        """Post the notifications that wait, now; how many deliveries were taken."""
        return await self.postman.deliver()

    async def notify(
        self, kind: str, reference: str, account: str = ADMIN, payload: JsonObject | None = None
    ) -> int:
        """Post a notification now, whatever has happened and whoever subscribed; how many receivers took it.

        Without a payload it is made up of what is known of the tag's image. Raises LookupError for an unknown kind or image.
        """
        if kind not in KINDS:
            raise LookupError(f"no such notification: {kind}; there are {sorted(KINDS)}")
        if payload is None:
            payload = made_up(self.engine, kind, reference, account)
        self.engine.notify(account, kind, payload)
        return await self.deliver()

    def stop_services(self, *names: str) -> None:
        """policy_engine, catalog: what needs them answers as the real engine does without them."""
        self.engine.down = set(names)
