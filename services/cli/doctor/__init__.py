"""`moorgate doctor`: what is misconfigured, and what mends it."""
