"""The configuration: keys, presets, and how it is read and checked."""
