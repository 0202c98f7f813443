"""Records → Rich tables and heatmaps: the only room that draws."""

from __future__ import annotations
from txinspect.records import Report

def render(report: Report, **show) -> str:
    return str(report)
