"""Corruption processes: Gaussian paths and their parameterisations, and masking. t = 0 is data, t = 1 is noise."""
