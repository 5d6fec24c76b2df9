"""Moorgate as its chart installs it: what `helm install` makes on the embedded control plane really runs here.

The stand-in kubelet only says that Pods run. For the chart's own namespace `node` does the work instead: each
container of a Pod template becomes a process, with the template's command, environment, volumes, user, read-only
root and the service account's own token, and is Ready when its readiness probe says so.

What is rewritten, and nothing else: Pods share this machine's network, so that every address a container listens
on (`0.0.0.0`) becomes its Pod's own; the API server is at 127.0.0.1; names of Services come from a hosts file and
their cluster addresses from a small forwarder (`names`). It needs root, for mounts and addresses.
"""
