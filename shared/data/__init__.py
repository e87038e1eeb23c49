"""Images: files, folders, pixels, data sets by name, downloads."""
