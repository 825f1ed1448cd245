"""Shipped scenario files, their small data and their trained models."""
