"""`make bench`: what an admission, a scan and an Audit cost, measured in pairs; see docs/performance.md."""
