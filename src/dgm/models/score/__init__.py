"""Score-based models."""
