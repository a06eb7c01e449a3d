"""Editing with a trained model: inpainting, restoration, encoding and interpolation of images."""
