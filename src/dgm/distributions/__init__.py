"""Distributions and changes of variables that torch.distributions lacks."""
