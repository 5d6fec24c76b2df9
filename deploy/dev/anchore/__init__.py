"""A simulator of Anchore for tests, `make demo` and `make dev`: API v1 of the Engine and v2 of Enterprise over one state.

It is no Anchore and says so in every answer's `Server` header. It pulls and reads no images: what an image holds stands in
`catalogue.json`, which plays the registry as well. In API v1 it keeps the real server's shapes, status codes, words and traps
(tests/contracts/test_anchore_recordings.py replays what a real server answered); in API v2 it keeps what the API description
says (test_anchore_v2.py), for nothing was recorded there. It really evaluates policies for the gates that it knows, and tells
webhooks. What tests need beyond Anchore's APIs (re-push a tag, faults, counters, latencies, time) is kept behind `/simulator/…`
and the methods of `simulator.Simulator`.
"""
