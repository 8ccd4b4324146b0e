"""Recipes, trainer, optimizers, balance losses, studies over seeds."""
