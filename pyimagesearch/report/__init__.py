"""Reports for a person: evaluation, figures, an HTML page, heat maps and annotated photos."""
