"""Utilities of all packages: errors, files, run folders, processes and the console. Internal."""
