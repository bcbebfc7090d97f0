"""The implementations to test against, and how each is fetched."""
