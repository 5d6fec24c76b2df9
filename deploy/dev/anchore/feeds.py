"""Vulnerability feeds: which distributions have data, and since when.

Without the feed of an image's distribution the real server finds nothing in its packages and two triggers fire instead
(stale_feed_data, vulnerability_data_unavailable); a fresh engine has no feeds until its first sync.
"""

from deploy.dev.anchore.wire import JsonObject, whole_seconds

_OTHER_FEEDS = {"nvdv2": "nvdv2:cves", "github": "github:python"}


class Feeds:
    """The feed groups that were synced."""

    def __init__(self, offered: dict[str, int]) -> None:
        self.offered = dict(offered)
        """Groups that the feed service has, with their number of records."""
        self.source_is_up = True
        self.revision = 0
        """Grows with every sync, so that cached evaluations are not used beyond it."""
        self._created: dict[str, float] = {}
        self._synced: dict[str, float] = {}

    def synced_at(self, group: str) -> float | None:
        """When the group was last brought up to date; None: never."""
        return self._synced.get(group)

    def set_synced(self, group: str, moment: float) -> None:
        """Pretend a sync at that time, to make a feed stale."""
        self._created.setdefault(group, moment)
        self._synced[group] = moment
        self.revision += 1

    def sync(self, now: float) -> list[JsonObject]:
        """What POST /system/feeds?sync=true answers; an empty list when the feed service is away."""
        if not self.source_is_up:
            return []
        for group in [*self.offered, *_OTHER_FEEDS.values()]:
            self.set_synced(group, now)
        done = [_result("vulnerabilities", dict(self.offered))]
        return done + [_result(feed, {group: 0}) for feed, group in _OTHER_FEEDS.items()]

    def show(self) -> list[JsonObject]:
        """What GET /system/feeds answers."""
        groups = {"vulnerabilities": [group for group in self._synced if group not in _OTHER_FEEDS.values()]}
        groups |= {feed: [group] for feed, group in _OTHER_FEEDS.items() if group in self._synced}
        return [self._show_feed(feed, names) for feed, names in groups.items() if names]

    def _show_feed(self, feed: str, groups: list[str]) -> JsonObject:
        last = max(self._synced[group] for group in groups)
        return {
            "created_at": whole_seconds(min(self._created[group] for group in groups)),
            "enabled": True,
            "groups": [self._show_group(group) for group in groups],
            "last_full_sync": whole_seconds(last),
            "name": feed,
            "updated_at": whole_seconds(last),
        }

    def _show_group(self, group: str) -> JsonObject:
        synced = whole_seconds(self._synced[group])
        return {
            "created_at": whole_seconds(self._created[group]),
            "enabled": True,
            "last_sync": synced,
            "name": group,
            "record_count": self.offered.get(group, 0),
            "updated_at": synced,
        }


def _result(feed: str, groups: dict[str, int]) -> JsonObject:
    shown = [
        {
            "group": group,
            "status": "success",
            "total_time_seconds": 0.1,
            "updated_image_count": 0,
            "updated_record_count": count,
        }
        for group, count in groups.items()
    ]
    return {"feed": feed, "groups": shown, "status": "success", "total_time_seconds": 0}
