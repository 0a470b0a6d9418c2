"""Study file -> graph of notebooks -> papermill."""
