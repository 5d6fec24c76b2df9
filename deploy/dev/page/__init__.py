"""The web page without a cluster: made-up Audits behind the real port, for its pictures and for tests."""
