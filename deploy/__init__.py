"""How Moorgate is delivered; deploy.dev is the embedded stack for tests and the demo."""
