"""Evaluation: predict whole images, count their pixels, score the counts and write the results."""
