"""What a cluster-wide restart asks for: a model of admissions, scans and retries, fed with measured service times.

    offered     Pods come at a steady rate until all have been asked for once; each is of one image, the popular ones more
                often (Zipf: the n-th image as often as 1/n)
    gateways    one queue; `replicas` of them serve it at 1 / `admission` each. An answer that would come later than the API
                server waits is none: the attempt is lost, and so is the work on it
    known       a Pod whose image has its verdict is let in; otherwise its image is asked for, once for all, and the Pod is
                deferred (one whose verdict comes while it is still kept would be let in at once: left out, to be on the safe side)
    scanners    one queue of images, first asked first served, at the rate of all scanners or of Anchore, whichever is less
    retries     a Pod that was deferred comes again after a back-off that doubles, as a controller's does

Time goes in steps, Pods are counted and not followed one by one (a fluid), so that a restart of 300,000 Pods takes a second.
Left out: the API server's, etcd's and the controllers' own limits, which in a real cluster bind first; whoever has those
at 5,000 Pods a second has a rate that this says Moorgate bears. A pure module: numbers in, numbers out.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterator

import msgspec

STEP = 0.05
"""Seconds."""

PATIENCE = 10.0
"""Seconds the API server waits for a webhook."""

WAIT = 0.5
"""Seconds a controller's Pod is kept for its verdict."""

FIRST_BACK_OFF, LAST_BACK_OFF = 1.0, 30.0
"""Seconds between two attempts of a controller, doubling."""

GIVEN_UP = 3600.0
"""Seconds after which a run that has not ended never does."""

_MAX_ATTEMPT = 10
"""Back-offs grow no more by then."""

_LITTLE = 1e-9
"""Part of the Pods: what is less is rounding."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is assumed."""

    pods: int = 300_000
    """10,000 nodes with 30 Pods each."""
    rate: float = 5_000.0
    """Pods that come a second."""
    images: int = 2_000
    known: float = 1.0
    """Part of the images whose verdicts are there from the beginning, the popular ones first."""
    replicas: int = 1
    admission: float = 0.0003
    """Seconds of one gateway for one attempt."""
    scanners: int = 1
    scans: float = 160.0
    """Verdicts a second of one scanner."""
    anchore: float = math.inf
    """Verdicts a second that Anchore gives, to all scanners together."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seconds: float
    """Until all Pods are let in; infinite where that never happens."""
    admitted: float
    """Pods."""
    attempts: float
    """Admissions that were asked for."""
    lost: float
    """Attempts that nobody waited for any more."""
    queue: float
    """Most attempts that waited at the gateways."""
    delay: float
    """Seconds that the last of these waited."""
    scans: float
    """Most images that waited for a scan."""
    course: list[tuple[float, float, float, float]]
    """Each second: the time, Pods let in, attempts waiting, images waiting."""


def run(restart: Restart) -> Outcome:
    """From the first Pod to the last."""
    return _Run(restart).to_the_end()


def replicas_needed(restart: Restart, delay: float = 0.5) -> int:
    """The least number of gateways under which no answer is later than `delay` seconds, retries included."""
    least = max(1, math.floor(restart.rate * restart.admission))
    for replicas in range(least, 100 * least + 100):
        outcome = run(msgspec.structs.replace(restart, replicas=replicas))
        if outcome.delay <= delay and not outcome.lost:
            return replicas
    raise ValueError("no number of gateways suffices")


class _Run:
    def __init__(self, restart: Restart) -> None:
        self._restart = restart
        weights = [1 / rank for rank in range(1, restart.images + 1)]
        self._shares = [weight / sum(weights) for weight in weights]
        known = round(restart.known * restart.images)
        self._known = set(range(known))
        self._asked = set(self._known)
        self._seen = [0.0] * restart.images
        """Pods of each image so far."""
        self._queue: deque[int] = deque()
        """Images that wait for a scan, in their order."""
        self._scanned = 0.0
        """Scans that the time so far was enough for, beside those that were made."""
        self._retries: dict[int, dict[tuple[int, int], float]] = defaultdict(lambda: defaultdict(float))
        """By step: Pods, by their image and the how-manieth attempt it is."""
        self._waiting = 0.0
        self._number = 0
        self._admitted = self._attempts = self._lost = 0.0
        self._most_waiting = self._longest = self._most_scans = 0.0
        self._course: list[tuple[float, float, float, float]] = []

    @property
    def _now(self) -> float:
        return self._number * STEP

    def to_the_end(self) -> Outcome:
        restart, left = self._restart, float(self._restart.pods)
        enough = restart.pods * (1 - _LITTLE)
        while self._admitted < enough and self._now < GIVEN_UP:
            new = min(left, restart.rate * STEP)
            left -= new
            self._step(new)
        return Outcome(
            seconds=self._now if self._admitted >= enough else math.inf,
            admitted=self._admitted,
            attempts=self._attempts,
            lost=self._lost,
            queue=self._most_waiting,
            delay=self._longest,
            scans=self._most_scans,
            course=self._course,
        )

    def _step(self, new: float) -> None:
        self._number += 1
        self._serve(list(self._arrivals(new)))
        self._scan()
        self._most_scans = max(self._most_scans, float(len(self._queue)))
        if not self._course or self._now - self._course[-1][0] >= 1:
            self._course.append((self._now, self._admitted, self._waiting, float(len(self._queue))))

    def _arrivals(self, new: float) -> Iterator[tuple[int, int, float]]:
        """Image, the how-manieth attempt, Pods: what is new, and what comes again now."""
        if new > 0 and len(self._known) == self._restart.images:
            yield 0, 0, new  # it makes no difference which image
        elif new > 0:
            for image, share in enumerate(self._shares):
                yield image, 0, new * share
        for (image, attempt), pods in self._retries.pop(self._number, {}).items():
            yield image, attempt, pods

    def _serve(self, arrivals: list[tuple[int, int, float]]) -> None:
        """All that came in this step stand in the queue together, and are answered when the last of them is."""
        capacity = self._restart.replicas / self._restart.admission
        came = sum(pods for _, _, pods in arrivals)
        self._attempts += came
        waiting = max(0.0, self._waiting + came - capacity * STEP)
        delay = waiting / capacity
        is_late = delay > PATIENCE
        for image, attempt, pods in arrivals:
            if is_late:
                self._lost += pods
                self._again(image, attempt, pods, PATIENCE)
            else:
                self._decide(image, attempt, pods, delay)
        self._waiting = waiting
        self._most_waiting = max(self._most_waiting, waiting)
        self._longest = max(self._longest, delay)

    def _decide(self, image: int, attempt: int, pods: float, delay: float) -> None:
        self._seen[image] += pods
        if image in self._known:
            self._admitted += pods
            return
        if image not in self._asked and self._seen[image] >= 1:  # before that, there is no whole Pod of it
            self._asked.add(image)
            self._queue.append(image)
        self._again(image, attempt, pods, delay + WAIT)

    def _again(self, image: int, attempt: int, pods: float, after: float) -> None:
        back_off = min(LAST_BACK_OFF, FIRST_BACK_OFF * 2.0**attempt)
        due = self._number + math.ceil((after + back_off) / STEP)
        self._retries[due][image, min(attempt + 1, _MAX_ATTEMPT)] += pods

    def _scan(self) -> None:
        """As many as the scanners and Anchore take in a step."""
        restart = self._restart
        self._scanned += min(restart.scanners * restart.scans, restart.anchore) * STEP
        while self._queue and self._scanned >= 1:
            self._known.add(self._queue.popleft())
            self._scanned -= 1
        if not self._queue:
            self._scanned = min(self._scanned, 1.0)  # time in which there was nothing to do is gone
