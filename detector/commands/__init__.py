"""What each tool does, once its arguments are read."""
