"""The stack without a cluster: what docker-compose.yml mounts, and what makes its credentials."""
