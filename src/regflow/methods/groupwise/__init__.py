"""Many images at once: what their transforms have in common, and what contradicts it."""
