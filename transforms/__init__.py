"""Transforms of images and labels. Every random number comes from the NumPy generator of the caller."""
