"""What one does with a trained model: in-paint, restore, encode, interpolate. Pure functions of a model and tensors."""
