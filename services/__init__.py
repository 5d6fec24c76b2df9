"""Moorgate's services: gateway, scanner, audit-writer and the command line."""
