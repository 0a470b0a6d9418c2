"""Tables and figures of a run -> one self-contained HTML."""

from stvsr.report.build import build_report

__all__ = ["build_report"]
