"""What all packages share: errors, files, processes, the console."""
