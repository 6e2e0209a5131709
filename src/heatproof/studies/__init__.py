"""A study: every method judged by every metric on every sample, each score kept."""
