"""Traces and their breakdown into stages."""
