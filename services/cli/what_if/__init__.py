"""`moorgate what-if`: what runs, judged by a policy bundle that nobody has activated yet.

`running` reads what runs and what judges it; `uses` says of each image whether the bundle would judge it; `accounts` are the
tenants' Anchores, `held` the candidate in them for as long as the run takes, `judging` the checks; `outcome` puts both sides
together by release, `text` is what a person reads, `command` the command.
"""
