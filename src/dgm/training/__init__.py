"""Training: one loop for all models."""

from dgm.training.loop import Step, fit
from dgm.training.settings import Settings

__all__ = ["Settings", "Step", "fit"]
