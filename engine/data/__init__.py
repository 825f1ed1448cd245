"""Labelled configurations: readers that name what they read, and checks of the labels."""
