"""A reproducible study of spatio-temporal adversarial video super-resolution."""

__version__ = "0.1.0"
