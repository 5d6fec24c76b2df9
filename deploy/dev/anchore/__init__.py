"""A simulator of Anchore Engine's external API, version 1, for tests, `make demo` and `make dev`.

It is no Anchore Engine and says so in every answer's `Server` header. It pulls and reads no images: what an image holds
stands in `catalogue.json`, which plays the registry as well. It keeps the real server's shapes, status codes, words and
traps (tests/contracts/test_anchore_recordings.py replays what a real server answered), and it really evaluates policy
bundles for the gates that it knows. What tests need beyond Anchore's API (re-push a tag, faults, counters, time) is kept
behind `/simulator/…` and the methods of `simulator.Simulator`.
"""
