"""The embedded stack: real parts started as processes on this machine, for tests, demo and development."""
