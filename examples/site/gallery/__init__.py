"""An app with uploaded pictures, whose thumbnails a worker draws."""
