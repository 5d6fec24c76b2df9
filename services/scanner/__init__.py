"""The scanner: takes scan requests, asks Anchore, keeps verdicts, scan states and bundles."""
