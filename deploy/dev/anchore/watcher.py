"""The image watcher: adds what a tag with an active tag_update subscription has moved to, and has it told.

Without such a subscription, or between two of its runs, the engine goes on answering the old digest for a re-pushed tag.
"""

import asyncio

from deploy.dev.anchore import references
from deploy.dev.anchore.accounts import Space
from deploy.dev.anchore.catalogue import RegistryError
from deploy.dev.anchore.engine import Engine
from deploy.dev.anchore.notifications import tag_update
from deploy.dev.anchore.records import ImageRecord, TagRecord


async def watch_tags(engine: Engine) -> None:
    """Look again and again, by the machine's clock."""
    while engine.settings.image_watcher_seconds > 0:
        await asyncio.sleep(engine.settings.image_watcher_seconds)
        look_again(engine)


def look_again(engine: Engine) -> None:
    """Compare each watched tag with the registry."""
    engine.catch_up()
    for space in engine.directory.spaces.values():
        watched = [
            item.key for item in space.subscriptions.values() if item.kind == "tag_update" and item.active
        ]
        for fulltag in watched:
            _look_at(engine, space, fulltag)
    engine.catch_up()


def _look_at(engine: Engine, space: Space, fulltag: str) -> None:
    reference = references.read_leniently(fulltag)
    try:
        image = engine.registry.resolve(reference, set(space.registries))
    except RegistryError:
        return
    newest = space.newest_of(fulltag)
    if not newest or newest[0].image.digest == image.digest:
        return
    told = tag_update(dict(newest[0].annotations), image.digest, [newest[0].image.digest])
    if engine.outbox.is_read:
        engine.notify(space.account, "tag_update", told)
    now = engine.clock.now()
    entry = TagRecord(reference=reference, created=now, updated=now, detected=now)
    known = space.images.get(image.digest)
    if known is not None:
        space.tag_image(known, entry)
        return
    annotations = dict(newest[0].annotations)
    record = ImageRecord(
        account=space.account, image=image, created=now, updated=now, annotations=annotations
    )
    space.images[image.digest] = record
    space.tag_image(record, entry)
    engine.analyzer.enqueue(record)
