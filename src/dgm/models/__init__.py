"""One folder a family, one file a published model."""
