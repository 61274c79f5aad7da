"""Tiles to one picture: links between overlapping tiles, their places, illumination, gains and blending."""
