"""A study, a classifier, or both, as one HTML file that needs nothing else; jinja2 lives here.

parts          what a page is made of: sections, tables, pictures, paragraphs
findings       the verdict, and what else has to be known first
explanations   ranking and scores
heatmaps       the gallery and the worst explained samples
cases          three inputs of one class, looked at closely
checks         what the model, the metrics and the methods were tested for
planted        which metrics agree with the planted truth
baselines      how much depends on what removed positions become
slices         curves, right and wrong predictions, classes
agreement      between metrics, and between methods
classifier     how good the classifier is
cost           passes through the model, and time
settings       everything that decided the numbers, and how to get them again
tables         tables as Markdown, CSV and LaTeX
writing        `write`
"""

from __future__ import annotations

from heatproof.report.page import write
from heatproof.report.sections.cases import Cases, choose
from heatproof.report.sections.heatmaps import Pictures

__all__ = ["Cases", "Pictures", "choose", "write"]
