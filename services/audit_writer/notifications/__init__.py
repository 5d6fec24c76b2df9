"""Notifications: what runs passes no longer, or passes again; people and their tools are told.

targets.py       the operator's file → typed targets
text.py          event → sentences; slack.py, alertmanager.py, webhook.py put them into each target's form
sender.py        one POST → what it came to
notifier.py      a durable consumer for each target: a target that is down delays no other
"""
