"""The study of routing policies."""
