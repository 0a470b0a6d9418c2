"""Clips, their shots and splits, and the training samples cut from them."""
