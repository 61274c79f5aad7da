"""The pages of volumes."""
