"""The stages of volumes."""
