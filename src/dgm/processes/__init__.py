"""How data is corrupted: Gaussian paths and their parameterisations, masking. t = 0 is data, t = 1 is noise."""
