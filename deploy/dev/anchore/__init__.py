"""A simulator of the part of Anchore Engine's API v1 that Moorgate and Anchore's command line use."""
