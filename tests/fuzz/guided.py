"""One target under atheris, guided by what it reaches in our code: `python -m tests.fuzz.guided TARGET [libFuzzer's options]`.

A process of its own, because libFuzzer ends it. Whatever a target raises is a finding; so is an input that takes longer
than `-timeout` seconds, or that eats the memory.
"""

import sys

import atheris
import structlog

with atheris.instrument_imports(include=["services", "shared"]):
    from tests.fuzz import targets

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
name, *options = sys.argv[1:]
target = targets.any_of_them if name == targets.ALL else targets.TARGETS[name]
atheris.Setup([sys.argv[0], *options], target)
atheris.Fuzz()
