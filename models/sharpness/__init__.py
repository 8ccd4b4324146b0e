"""Hessian, spectrum, trace, landscape."""
