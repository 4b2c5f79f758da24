"""Figures of evaluations for a page or a paper."""
