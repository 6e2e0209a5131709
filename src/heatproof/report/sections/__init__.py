"""The sections of the page, one module each: `section(content)` gives one, or None where there is nothing to show."""
