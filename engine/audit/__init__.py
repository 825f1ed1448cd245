"""Audits of physical properties of learned modules, and certificates of gradients."""
