"""What the other parts found, shown: data in, text out."""
