"""The operations of Anchore Enterprise's API, version 2, over the same engine.

Each asks API v1's and says the answer in v2's words. Where the API description of v2 is silent, v1's status and text stand;
what is guessed beyond that stands in the module that guesses. `operations_v2.rows()` gathers them.
"""
