"""Thumbnails of uploaded pictures, drawn in the background: `make run` shows it."""
