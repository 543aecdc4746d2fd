"""What every room needs once: a place in a file, what a user named, a data file, arguments that are wrong."""
