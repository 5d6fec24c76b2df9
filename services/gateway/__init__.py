"""The admission gateway: answers the API server from what is known, asks for what is not."""
