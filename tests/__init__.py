"""Tests mirror services/ and shared/; tests/support has one module per neighbour."""
