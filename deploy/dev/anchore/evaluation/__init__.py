"""The policy engine: judges an image under a bundle, and says whether a bundle is sound.

Pure functions over values: no HTTP, no records, and the present is a parameter.
"""
