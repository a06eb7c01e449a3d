"""Training: one loop for all models."""

from dgm.training.loop import fit
from dgm.training.settings import Settings
from dgm.training.step import Step

__all__ = ["Settings", "Step", "fit"]
