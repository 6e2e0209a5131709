"""A study, a classifier, or both, as one HTML file that needs nothing else.

content    what a report shows
page       `write`: the sections in their order, rendered and written
summary    title, verdict and findings at the top of the page
sections   one module a section
facts      what metrics and methods declare about themselves
parts      what a section consists of
tables     tables as Markdown, CSV and LaTeX
html       the template and its filters
"""

from __future__ import annotations

from heatproof.report.content import Cases, Content, Pictures, choose
from heatproof.report.page import write

__all__ = ["Cases", "Content", "Pictures", "choose", "write"]
