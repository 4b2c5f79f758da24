"""Transforms of images and labels; every random number comes from the numpy generator passed in."""
