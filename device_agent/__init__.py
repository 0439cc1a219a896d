"""What runs on a device: supervisor, updater and inference process, and what they keep."""
