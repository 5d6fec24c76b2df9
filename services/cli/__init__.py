"""The command line: starts the services and serves the operator."""
