"""Upscale clips of any length, in windows and tiles."""
