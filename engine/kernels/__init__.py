"""Taichi kernels over torch tensors; nothing else in the engine imports Taichi."""
