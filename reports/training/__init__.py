"""Accuracy, policies and sharpness of what was trained."""
