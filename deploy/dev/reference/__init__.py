"""The reference pages in docs/reference, made from the code: settings, custom resources, metrics, messages.

Each module makes one page as text; `python -m deploy.dev.reference` (`make docs`) writes them, and a test fails where a
page is not what this makes of the code. Nothing in these pages is written by hand.
"""
