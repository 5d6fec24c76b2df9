"""The operator's web page: what runs, what was rejected, what has degraded, for whoever may list Audits.

Read-only, and imported only where it is on. The way of a request: server (routes, headers) → access (who asks, and what
the API server lets them see) → views (from the shelf's records to what is shown) → sheets (templates). Any replica can
answer any request: all there is of a session is the token that its browser sends along.
"""
