"""How fast the machine is just now: a piece of work that never changes, timed between the runs of a bench."""

import json
import statistics
import time

_TURNS = 5


def unit_of_work() -> float:
    """Seconds of CPU of what never changes: JSON, dictionaries and calls, as in a service."""
    return statistics.median(_timed() for _ in range(_TURNS))


def _timed() -> float:
    began = time.process_time()
    _work()
    return time.process_time() - began


def _work() -> None:
    document = {"containers": [{"name": f"c{number}", "image": f"r/x/{number}:1"} for number in range(40)]}
    for _ in range(200):
        found = json.loads(json.dumps(document))
        sorted((each["image"].partition(":")[0], each["name"]) for each in found["containers"])
