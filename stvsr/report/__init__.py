"""Tables and figures of a run -> one self-contained HTML: `build_report(run_folder)`."""

__all__ = ["build_report"]


def __getattr__(name: str) -> object:
    """Import on first use: taking a picture of a report needs no PyTorch, which building one does."""
    if name == "build_report":
        from stvsr.report.build import build_report

        return build_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
