"""Backbone and head together, checkpoints, evaluation."""
