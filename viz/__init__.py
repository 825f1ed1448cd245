"""Pictures, pages and reports of runs."""
