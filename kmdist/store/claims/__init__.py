"""Who may write to an output, and how a run becomes visible."""
