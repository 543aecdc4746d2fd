import os


def average_size(paths):
    total = 0
    for p in paths:
        total += os.path.getsize(p)
    return total / len(paths)
