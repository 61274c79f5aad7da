"""The pages of scenes."""
