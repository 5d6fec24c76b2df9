"""`moorgate bootstrap`: everything outside Kubernetes' own manifests that Moorgate needs, made ready and kept so.

`command` reads the settings and opens the neighbours, `road` goes through the steps in order; each step has a module of its
own, looks first, changes only what differs, and says so in a line.
"""
