"""A study: methods x metrics x samples, every score kept."""
