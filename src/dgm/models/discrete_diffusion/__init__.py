"""Diffusion over discrete values."""
