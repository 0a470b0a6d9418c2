"""Frames in and out of files: read, write, colour, sound."""
