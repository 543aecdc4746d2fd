"""Exact values where a trainer or another library makes the loop."""
