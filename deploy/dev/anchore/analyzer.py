"""The analyzers: a queue, a bound on how many run at once, and an end in time for each.

Nothing runs in the background. Whoever looks at the engine first lets the queue catch up with the clock, so an analysis that
was due in between has ended at its own time, in its own order, and tests that stop the clock see exactly what they set.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from deploy.dev.anchore.clock import Clock
from deploy.dev.anchore.records import ANALYZED, ANALYZING, FAILED, NOT_ANALYZED, ImageRecord
from deploy.dev.anchore.settings import Settings

Finished = Callable[[ImageRecord, float], None]


@dataclass
class Job:
    """One image in the queue or under analysis."""

    record: ImageRecord
    ready: float
    ends: float = math.inf


class Analyzer:
    """Moves records from not_analyzed to analyzing to analyzed or analysis_failed."""

    def __init__(self, settings: Settings, clock: Clock, finished: Finished) -> None:
        self._settings = settings
        self._clock = clock
        self._finished = finished
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._reached = 0.0
        self.seconds: float = settings.analysis_seconds
        self.seconds_of: dict[str, float] = {}
        """Overrides by image digest."""
        self.fails: dict[str, bool] = {}
        """Overrides by image digest."""

    def enqueue(self, record: ImageRecord) -> None:
        """Ask for an analysis; one that is under way is forgotten."""
        self.forget(record)
        record.status = NOT_ANALYZED
        ready = self._clock.now() + self._settings.pickup_seconds
        self._waiting.append(Job(record, ready))

    def forget(self, record: ImageRecord) -> None:
        """The image is deleted or starts anew."""
        self._waiting = [job for job in self._waiting if job.record is not record]
        self._running = [job for job in self._running if job.record is not record]

    def catch_up(self) -> None:
        """Let everything happen that was due by now."""
        now = self._clock.now()
        while True:
            start, end = self._next_start(), self._next_end()
            if end is not None and end.ends <= now and (start is None or end.ends <= start.ready):
                self._end(end)
            elif start is not None and max(start.ready, self._reached) <= now:
                self._start(start)
            elif end is not None and end.ends <= now:
                self._end(end)
            else:
                return

    def _next_start(self) -> Job | None:
        bound = self._settings.parallel_analyses
        if not self._waiting or (bound and len(self._running) >= bound):
            return None
        return min(self._waiting, key=lambda job: job.ready)

    def _next_end(self) -> Job | None:
        return min(self._running, key=lambda job: job.ends) if self._running else None

    def _start(self, job: Job) -> None:
        began = max(job.ready, self._reached) if self._settings.parallel_analyses else job.ready
        self._waiting.remove(job)
        self._running.append(job)
        job.ends = began + self._duration(job.record)
        job.record.status = ANALYZING
        job.record.updated = began

    def _end(self, job: Job) -> None:
        self._running.remove(job)
        self._reached = max(self._reached, job.ends)
        record = job.record
        record.updated = job.ends
        if self.fails.get(record.image.digest, record.image.content.analysis_fails):
            record.status = FAILED
        else:
            record.status = ANALYZED
            record.analyzed = job.ends
            record.was_analyzed = True
            for tag in record.tags:
                if tag.dockerfile != record.dockerfile:
                    tag.dockerfile, tag.updated = record.dockerfile, job.ends
        self._finished(record, job.ends)

    def _duration(self, record: ImageRecord) -> float:
        chosen = self.seconds_of.get(record.image.digest)
        if chosen is not None:
            return chosen
        own = record.image.content.analysis_seconds
        if own is not None and self._settings.honour_image_seconds:
            return own
        return self.seconds
